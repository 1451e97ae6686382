"""How many examples: few by default; ``HYPOTHESIS_PROFILE=long`` takes some hundred of each.

``pytest --hypothesis-show-statistics`` says how many there were.
"""

import os

from hypothesis import HealthCheck, settings

COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
# the same examples in every run; those of the other profile differ from run to run
settings.register_profile("quick", max_examples=8, derandomize=True, database=None, **COMMON)
settings.register_profile("long", max_examples=100, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
