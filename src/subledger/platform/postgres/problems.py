"""What can go wrong before PostgreSQL answers, each with what to do."""

from __future__ import annotations


class PostgresProblem(RuntimeError):
    """PostgreSQL cannot be started or found; the text says why and how to mend it."""
