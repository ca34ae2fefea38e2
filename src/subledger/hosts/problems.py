"""What a host cannot do, said to a person in one line."""

from __future__ import annotations


class HostProblem(RuntimeError):
    """The process cannot start or do what was asked; the text says why and how to mend it."""
