"""The UN regulation on automated driving, which each market's own pack carries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.pack_world import AE, EU, IN, JP, KR, UK, at, at_home, objections, review

from ringfence.core.ids import Jurisdiction
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ItemKind

RULE = "UN-ADS-2026"


@pytest.mark.parametrize("place", [AE, EU, IN, JP, KR, UK])
@pytest.mark.parametrize(("sae_level", "flagged"), [(2, False), (3, True), (5, True)])
def test_an_automated_driving_system_needs_its_safety_case_looked_at(
    judge: Judge, place: Jurisdiction, sae_level: int, flagged: bool
) -> None:
    # given
    region = at(place)
    asked = at_home(Action.DEPLOY, region, ItemKind.RELEASE, sae_level=sae_level)
    looked_at = replace(asked, approvals=(review(region, region, RULE),))
    # when
    without, with_it = (objections(judge, a, place.lower()) for a in (asked, looked_at))
    # then
    assert (RULE in without) is flagged
    assert RULE not in with_it
    assert (RULE in {note.id for note in judge.judge(looked_at).flags}) is flagged
