"""What identity refuses, each with its way out."""

from __future__ import annotations

from subledger.platform.http.problems import declare

CLOCK_IS_LIVE = declare(
    "clock_is_live",
    status=409,
    title="The clock of a live tenant cannot be moved",
    fix="Use a key of a sandbox tenant (sk_test_…); POST /v1/sandboxes makes one.",
)
CLOCK_IS_MOVING = declare(
    "clock_is_moving",
    status=409,
    title="The clock is being moved already",
    fix="Wait until the move named by clock_move_id is done, then ask again.",
)
CLOCK_BACKWARDS = declare(
    "clock_backwards",
    status=422,
    title="A clock moves forward only",
    fix="Choose a moment at or after the clock's now_at (GET /v1/clock).",
)
CLOCK_TOO_FAR = declare(
    "clock_too_far",
    status=422,
    title="The clock would move too far at once",
    fix="Move it by at most 20 years at a time.",
)
CLOCK_NEEDS_ONE_DATABASE = declare(
    "clock_needs_one_database",
    status=409,
    title="Clock moves need all services in one database",
    fix="Run the sandbox in an installation where every service uses the same database.",
)
LAST_ADMIN_KEY = declare(
    "last_admin_key",
    status=409,
    title="The tenant would be left without a key that may write",
    fix="Create another key with the role admin, then revoke this one with it.",
)
SANDBOX_NEEDS_LIVE_KEY = declare(
    "sandbox_needs_live_key",
    status=409,
    title="A sandbox belongs to a live tenant",
    fix="Use an admin key of the live tenant (sk_live_…).",
)
