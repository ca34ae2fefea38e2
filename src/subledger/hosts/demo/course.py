"""The course of the demo: what happens when, in the order of the tenant's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

from subledger.hosts.demo import script
from subledger.hosts.demo.business import Cinema
from subledger.hosts.demo.script import Viewer
from subledger.hosts.demo.troubles import Troubles

AT_ONCE = 12
_OUTAGE_AFTER = 1
_HANDS_IN = 3
"""Months: the provider is dead at the next renewals; a refund and a dispute."""
Progress = Callable[[str, int, int], None]
"""``(what, done, of)``"""


async def gather(work: Iterable[Awaitable[Any]]) -> None:
    """Run a few at a time; the first failure is raised."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[Any]) -> None:
        async with slots:
            await each

    await asyncio.gather(*(one(each) for each in work))


async def six_months(
    cinema: Cinema,
    viewers: list[Viewer],
    troubles: Troubles,
    progress: Progress,
    first_paid: Callable[[], None],
) -> None:
    """Sell during the first weeks, then let six months pass with all that happens in them."""
    sold = 0
    for at in sorted({viewer.buys_at for viewer in viewers}):
        if at > script.START:
            await cinema.move_to(at)
        todays = [viewer for viewer in viewers if viewer.buys_at == at]
        if sold == 0:
            # The first customer alone, to see how long a newcomer waits for a paid invoice.
            cards = [each for each in todays if not each.by_page] or todays
            await cinema.sell(cards[0])
            first_paid()
            todays.remove(cards[0])
            sold = 1
        await gather(cinema.sell(viewer) for viewer in todays)
        sold += len(todays)
        progress("customers", sold, len(viewers))
    for month in range(1, script.MONTHS + 1):
        await cinema.move_to(script.START + timedelta(days=30 * month - 5))
        await gather(
            cinema.make_trouble(viewer)
            for viewer in viewers
            if viewer.trouble and viewer.trouble_month == month
        )
        await gather(
            cinema.leave(viewer)
            for viewer in viewers
            if viewer.leaves and viewer.leaves_month == month
        )
        if month == _OUTAGE_AFTER:
            await troubles.dead_provider()
        elif month == _HANDS_IN:
            await troubles.refund()
            await troubles.dispute()
        progress("months", month, script.MONTHS)
    await cinema.move_to(script.START + timedelta(days=30 * script.MONTHS + 1))
