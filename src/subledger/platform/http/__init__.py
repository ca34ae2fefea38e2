"""HTTP as every service speaks it: problems, callers, idempotency, pages, strict input."""
