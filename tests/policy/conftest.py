"""The shipped packs, parsed once for every test."""

from __future__ import annotations

import pytest

from ringfence.policy.judge import Judge
from ringfence.policy.packs import SHIPPED_PACKS_DIR, load_packs


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge(packs=load_packs(SHIPPED_PACKS_DIR))
