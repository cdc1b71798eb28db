"""A region that somebody else operates: what it is handed, its operator's parent has as well."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import AMERICA, CHINA, DE, WORLD, planned_crossings

from ringfence.core.ids import Jurisdiction
from ringfence.policy.cures import find_cures
from ringfence.policy.facts import Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.measures import papers_of
from ringfence.policy.words import Action, ItemKind

CN, EU, JP, US = (Jurisdiction(code) for code in ("CN", "EU", "JP", "US"))
PLAN = dict(planned_crossings())
RELEASE = PLAN["phase 1: world export release hub > de"]
"""Of European and American updates, from the European hub to a European region."""

HANDED_OVER = [
    ItemKind.RELEASE,
    ItemKind.SNAPSHOT,
    ItemKind.ADAPTER,
    ItemKind.INFERENCE_MODEL,
    ItemKind.ARCHITECTURE,
    ItemKind.CODE,
]


def rules(judge: Judge, asked: Question) -> set[str]:
    return {note.id for note in judge.judge(asked).rules}


def operated_from(place: Jurisdiction, kind: ItemKind, action: Action = Action.EXPORT) -> Question:
    """The region's operator is a subsidiary of a company in `place`; no paper is held."""
    partner = replace(RELEASE.recipient, parent=place)
    return replace(RELEASE, kind=kind, action=action, recipient=partner, approvals=())


@pytest.mark.parametrize("action", [Action.EXPORT, Action.IMPORT])
@pytest.mark.parametrize("kind", HANDED_OVER)
@pytest.mark.parametrize("place", [CN, JP, US])
def test_what_a_partner_is_handed_is_an_export_to_its_parent_too(
    judge: Judge, kind: ItemKind, place: Jurisdiction, action: Action
) -> None:
    # given the same item for an operator of the region's own country, and for one at the seat
    own = operated_from(EU, kind, action)
    asked = operated_from(place, kind, action)
    at_the_seat = replace(asked, recipient=replace(asked.recipient, jurisdiction=place))
    # when all three are judged
    found = rules(judge, asked)
    # then the partner's copy meets the rules of both places; the clause of US-DOJ-202.302 gives way
    # to US-DOJ-202.301 where the owner is of a country of concern
    assert found >= (rules(judge, own) | rules(judge, at_the_seat)) - {"US-DOJ-202.302"}
    assert rules(judge, at_the_seat) <= found
    assert found > rules(judge, own) - {"US-DOJ-202.302"} or place == US


@pytest.mark.parametrize("place", [CN, JP, US])
def test_a_number_or_a_digest_is_not_handed_on_to_the_parent(
    judge: Judge, place: Jurisdiction
) -> None:
    for kind in (ItemKind.MECHANISM, ItemKind.CHECKPOINT):
        assert rules(judge, operated_from(place, kind)) == set()


@pytest.mark.parametrize("place", [CN, US])
def test_the_cure_names_papers_for_both_places(judge: Judge, place: Jurisdiction) -> None:
    # given a release for a partner
    asked = operated_from(place, ItemKind.RELEASE)
    # when the first route out is taken
    route = find_cures(judge, asked).routes[0]
    papers = [paper for step in route for paper in papers_of(asked, step)]
    # then it has papers for the parent's place, and with those of one place alone it is refused
    assert place in {paper.destination for paper in papers}
    assert judge.judge(replace(asked, approvals=tuple(papers))).permitted
    for there in {paper.destination for paper in papers}:
        left = tuple(paper for paper in papers if paper.destination != there)
        assert not judge.judge(replace(asked, approvals=left)).permitted


@pytest.mark.parametrize("sender", [DE, AMERICA], ids=["de", "us"])
def test_what_a_partner_trains_counts_as_its_parents_too(judge: Judge, sender: Party) -> None:
    # given an update of an operator with its parent in China, for American cars
    partner = replace(sender, parent=CN)
    update = PLAN["phase 2: us-market export update us > hub"]
    others = frozenset(party for party in update.contributors if party.region != sender.region)
    asked = replace(update, sender=partner, contributors=others | {partner})
    # then the connected-vehicle rule sees China in it
    assert "US-ICTS-791.303" in rules(judge, asked)
    assert CHINA not in asked.contributors
    assert asked.lineage != WORLD
