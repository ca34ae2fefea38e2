"""Seeded simulation: one process, a real PostgreSQL, a random order of everything."""
