"""What the scheduler refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import declare

NAME_TAKEN = declare(
    "dunning_policy_name_taken",
    status=409,
    title="Another dunning policy has this name",
    fix="Choose another name, or change that policy: GET /v1/dunning-policies. The name default"
    " is that of PUT /v1/dunning-policy.",
)
TOO_MANY = declare(
    "too_many_dunning_policies",
    status=409,
    title="The tenant has as many dunning policies as it may",
    fix="Delete one that you do not need: DELETE /v1/dunning-policies/{id}.",
)
INVALID_POLICY = declare(
    "invalid_policy",
    status=422,
    title="There is no such dunning policy",
    fix="Mend what the pointer names.",
)
