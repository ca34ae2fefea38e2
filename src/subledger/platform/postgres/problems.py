"""What can go wrong before PostgreSQL answers, each with what to do."""

from __future__ import annotations


class PostgresProblem(RuntimeError):
    """PostgreSQL cannot be started or found; the text says why and how to mend it."""


def disk_hint(said: str) -> str:
    """What to add to PostgreSQL's words when the disk is full."""
    full = "No space left on device" in said or "Disk quota exceeded" in said
    return "\nThe disk is full: free some space, or set SUBLEDGER_DATA_DIR." if full else ""
