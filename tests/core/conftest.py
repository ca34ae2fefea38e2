"""How hard the properties are tried: some examples in make test, a thousand in the long lanes, as
many as a night holds in make fuzz. The first two draw the same examples in every run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = {"quick": 60, "long": 1_000, "fuzz": 100_000}

for name, most in EXAMPLES.items():
    settings.register_profile(
        name,
        max_examples=most,
        deadline=None,  # speed lives in benchmarks/
        derandomize=name != "fuzz",
        database=None if name != "fuzz" else settings.default.database,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
