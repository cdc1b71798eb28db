"""What every test stands on: one thread a process, and the same examples in every run."""

import os

# Before numpy or torch start their thread pools; the processes that tests start inherit it.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import hypothesis  # noqa: E402 - hypothesis imports numpy where it is installed

# No deadline: a shared machine pauses any example; pytest's timeout ends what hangs.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")
