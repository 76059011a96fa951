"""Hypothesis tries the same examples in every run, unless the profile ``explore`` is chosen.

``BOXSCHED_HYPOTHESIS=explore pytest tests/core`` draws new ones, and ten times as many.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("BOXSCHED_HYPOTHESIS", "repeatable"))
