"""``subledger demo``: an online cinema does six months of business through the public API."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Run the demo; returns the exit code."""
    from subledger.hosts.cli import asyncio_run
    from subledger.hosts.demo.run import run

    return asyncio_run(run(arguments))
