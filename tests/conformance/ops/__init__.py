"""Translations, one module for each file of cases; each maps operations to functions."""
