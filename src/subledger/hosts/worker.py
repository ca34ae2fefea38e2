"""``subledger worker``: the loops without HTTP, beside a ``serve`` on the same database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from subledger.hosts.loops import Loops
from subledger.hosts.running import assembled, interruptible, place
from subledger.platform.settings import Settings


async def run(settings: Settings, *, only: Sequence[str] = ()) -> None:
    """Run the steps of the chosen services (none named: of all) until Ctrl-C or SIGTERM."""
    async with (
        interruptible() as stop,
        place(settings) as where,
        assembled(settings, where, only=only) as assembly,
    ):
        if stop.is_set():
            return
        loops = Loops(
            assembly.steps,
            wakeup=assembly.wakeup,
            watched=assembly.databases["identity"],
        )
        loops.start()
        names = ", ".join(each.name for each in assembly.running)
        print(f"Subledger works: {names}. Ctrl-C ends it.", flush=True)
        stopped = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(loops.failed())
        try:
            await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise failed.result()
        finally:
            stopped.cancel()
            failed.cancel()
            await loops.stop()
