"""Settings of all tests."""

import os

from hypothesis import settings

# Examples are drawn afresh on a laptop and the same every time in CI; a slow machine is not a failure.
settings.register_profile("laptop", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "laptop")
