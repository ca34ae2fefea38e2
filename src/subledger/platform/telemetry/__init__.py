"""Logs and metrics: structured JSON lines without secrets, Prometheus counters."""
