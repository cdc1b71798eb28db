"""Owners are looked up in the region's own registry, and decide what the law answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.places.forging import update, write_payload
from tests.places.world import World, refused

from ringfence.core.artifacts import Declaration
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import ConfigError, Refused
from ringfence.crossing.law import Law, judge, question
from ringfence.crossing.ownership import owners_of
from ringfence.crossing.registry import read_registry
from ringfence.crossing.requests import questions, unasked
from ringfence.policy.words import Action

Register = Callable[..., None]

HUB, DE = "hub operator", "de operator"
LISTED = {"name": "Listed", "us_listed": True, "dispersed": 100}
CLEAN = {"name": "Clean", "dispersed": 100}
LI = {"name": "Li", "kind": "person", "seat": "CN"}


@pytest.fixture
def law(world: World) -> Law:
    """America's: what it exports must go to nobody whom listed parties own by half."""
    return world.place("us").region.law


@pytest.fixture
def declared(world: World, tmp_path: Path) -> Declaration:
    """America's update for the hub, in the lineage of everybody."""
    return replace(update(world, "cn", write_payload(world, tmp_path / "payload")), sender="us")


@pytest.fixture
def registered(world: World) -> Register:
    """Register searches in a region's facts; they take the place of those of the same names."""

    def register(*rows: dict[str, object], region: str = "us") -> None:
        facts = world.homes[region].facts
        head, *tables = facts.read_text().split("[[")
        names = [f'name = "{row["name"]}"\n' for row in rows]
        kept = [table for table in tables if not any(name in table for name in names)]
        new = [_table(row, at=to_rfc3339(world.clock.now_s)) for row in rows]
        facts.write_text("[[".join((head, *kept, *new)))

    return register


def _table(row: dict[str, object], *, at: str) -> str:
    row = {"seat": "EU", "at": at, "us_listed": False, "cn_listed": False} | row
    owners = row.pop("owners", {})
    assert isinstance(owners, dict)
    named = ", ".join(f'{{ name = "{name}", percent = {held} }}' for name, held in owners.items())
    lines = [f"{key} = {_value(value)}" for key, value in row.items()]
    return "\n".join(("screenings]]", *lines, f"owners = [{named}]", "\n"))


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool | int | float) else f'"{value}"'


def _answer(law: Law, declared: Declaration, action: Action = Action.EXPORT) -> tuple[str, ...]:
    """The rules that refuse, or what else does."""
    try:
        judge(law, declared, action=action)
    except Refused as caught:
        return caught.rules or (caught.reason,)
    return ()


# ── listed owners ──


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"name": HUB, "owners": {"Listed": 49.99, "Clean": 50.01}}], ()),
        ([{"name": HUB, "owners": {"Listed": 50, "Clean": 50}}], ("US-EAR-50PCT",)),
        (
            [
                {"name": HUB, "owners": {"Middle": 50, "Clean": 50}},
                {"name": "Middle", "owners": {"Listed": 50, "Clean": 50}},
            ],
            ("US-EAR-50PCT",),
        ),
        (
            [
                {"name": HUB, "owners": {"Middle": 50, "Clean": 50}},
                {"name": "Middle", "owners": {"Listed": 49.99, "Clean": 50.01}},
            ],
            (),
        ),
        (
            [
                {"name": HUB, "owners": {"Left": 50, "Clean": 50}},
                {"name": "Left", "owners": {"Right": 60, "Clean": 40}},
                {"name": "Right", "owners": {"Left": 60, "Clean": 40}},
            ],
            (),
        ),
        (
            [
                {"name": HUB, "owners": {"Left": 50, "Clean": 50}},
                {"name": "Left", "owners": {"Right": 60, "Clean": 40}},
                {"name": "Right", "owners": {"Left": 50, "Listed": 50}},
            ],
            ("US-EAR-50PCT",),
        ),
        ([{"name": HUB, "owners": {"Stranger": 49.99, "Clean": 50.01}}], ()),
        ([{"name": HUB, "owners": {"Stranger": 50, "Clean": 50}}], ("US-EAR-50PCT",)),
        ([{"name": HUB, "owners": {"Clean": 50}}], ("US-EAR-50PCT",)),
    ],
    ids=[
        "49.99",
        "50",
        "half of half",
        "less than half of half",
        "a cycle",
        "a cycle with a listed owner",
        "unscreened below half",
        "unscreened",
        "unaccounted",
    ],
)
def test_listed_owners_of_half_stop_an_american_export(
    law: Law,
    declared: Declaration,
    registered: Register,
    rows: list[dict[str, object]],
    expected: tuple[str, ...],
) -> None:
    # given the hub's owners in America's registry
    registered(*rows, LISTED, CLEAN)
    # then
    assert _answer(law, declared) == expected


def test_the_oldest_search_of_the_chain_counts(
    world: World, law: Law, declared: Declaration, registered: Register
) -> None:
    # given a hub that is searched today, as its holding was yesterday
    yesterday = to_rfc3339(world.clock.now_s - 86_400)
    registered({"name": HUB, "owners": {"Clean": 100}}, CLEAN | {"at": yesterday})
    # then that is too old
    assert _answer(law, declared) == ("CN-PIPL-42", "US-EAR-744")


def test_the_owners_of_everybody_who_contributed_count_for_the_us_market(
    law: Law, declared: Declaration, registered: Register
) -> None:
    # given a German region whose shares are in Chinese hands by half, each of them by less
    registered(
        {"name": DE, "owners": {"Li": 25, "Wang": 25, "Clean": 50}},
        LI,
        LI | {"name": "Wang"},
        CLEAN,
    )
    # when America would train for its market after it, and for another
    ours = replace(declared, lineage="us-market", jurisdictions=("EU", "US"))
    # then the update of today bars the lineage, and no other one
    assert "US-ICTS-791.303" in _answer(law, ours, Action.TRAIN)
    assert _answer(law, replace(ours, lineage="world"), Action.TRAIN) == ()


# ── the ultimate parent ──


def test_owners_that_lead_elsewhere_than_the_agreement_refuse(
    law: Law, declared: Declaration, registered: Register
) -> None:
    # given a hub that a Chinese company owns, through a European one
    registered(
        {"name": HUB, "owners": {"Middle": 51, "Clean": 49}},
        {"name": "Middle", "owners": {"Top": 50.01, "Clean": 49.99}},
        {"name": "Top", "seat": "CN", "dispersed": 100},
        CLEAN,
    )
    # when America would send it anything
    with pytest.raises(Refused) as caught:
        judge(law, declared, action=Action.EXPORT)
    # then both are named, and what to do
    assert (caught.value.stage, caught.value.reason) == ("law", "ownership")
    assert caught.value.detail == (
        "region hub: the agreement has the ultimate parent of its operator in EU, the registered "
        "owners lead to CN (hub operator < Middle < Top); correct the owners in facts.toml, or "
        'agree on parent = "CN"'
    )


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ({"Stranger": 60, "Clean": 40}, "Stranger was never screened, which counts as CN"),
        ({}, "most of hub operator is not accounted for, which counts as CN"),
    ],
)
def test_a_parent_that_nobody_knows_refuses(
    law: Law,
    declared: Declaration,
    registered: Register,
    owners: dict[str, int],
    said: str,
) -> None:
    # given
    registered({"name": HUB, "owners": owners}, CLEAN)
    # then
    with pytest.raises(Refused, match=said) as caught:
        question(law, declared, action=Action.EXPORT)
    assert caught.value.reason == "ownership"


def test_a_contradiction_stops_training_and_is_recorded(world: World, registered: Register) -> None:
    # given a German region that has registered a Chinese owner of its own operator
    registered({"name": DE, "owners": {"Li": 100}}, LI, region="de")
    # when a round opens, then it stands in the log, and nothing is trained
    with pytest.raises(Refused) as caught:
        world.place("de").turn()
    assert (caught.value.stage, caught.value.reason) == ("law", "ownership")
    assert [e.refusal.reason for e in world.entries("de") if e.refusal] == ["ownership"]
    assert world.place("de").grants() == []


def test_a_contradiction_at_the_hub_refuses_what_it_is_offered(
    world: World, registered: Register
) -> None:
    # given a hub that has registered a Chinese owner of the German operator
    registered({"name": DE, "owners": {"Li": 100}}, LI, region="hub")
    # when Germany offers its update, then it is refused and recorded
    with refused(world, "ownership", at="law", counterparty="de"):
        world.place("de").turn()


def test_a_plan_leaves_out_what_cannot_be_asked(law: Law, registered: Register) -> None:
    # given a contradiction about the German operator
    before = list(questions(law))
    registered({"name": DE, "owners": {"Li": 100}}, LI)
    # when the plan is asked about
    asked, refusals = list(questions(law)), list(unasked(law))
    # then every step is in one of the two, and the German ones in the latter
    assert len(asked) + len(refusals) == len(before)
    assert {refusal.reason for _, refusal in refusals} == {"ownership"}
    assert all("de" not in (step.sender, step.recipient) for step, _ in asked)


# ── files ──


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"name": "x", "owners": {"a": -1}}, "a share of 'a' above 0"),
        ({"name": "x", "owners": {"a": 60, "b": 41}}, "100 per cent in sum, got 101"),
        ({"name": "x", "owners": {"x": 60}}, "no shares of its own"),
        ({"name": "x", "dispersed": 101}, "in dispersed hands"),
        ({"name": "x", "kind": "fund"}, "Invalid enum value 'fund'"),
        ({"name": "x", "kind": "state", "dispersed": 1}, "no owners of a state"),
        ({"name": "x", "seat": "Germany"}, "jurisdiction"),
        ({"name": "x", "operator": "x"}, "unknown field `operator`"),
    ],
)
def test_owners_that_cannot_be_are_our_own_fault(
    tmp_path: Path, row: dict[str, object], said: str
) -> None:
    # given
    path = tmp_path / "facts.toml"
    path.write_text("[[" + _table(row, at="2026-11-20T00:00:00Z"))
    # then
    with pytest.raises(ConfigError, match=said) as caught:
        read_registry(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_company_that_is_registered_twice_is_our_own_fault(tmp_path: Path) -> None:
    # given two searches of one time, which say different things
    path = tmp_path / "facts.toml"
    rows = (_table(row, at="2026-11-20T00:00:00Z") for row in (CLEAN, CLEAN | {"us_listed": True}))
    path.write_text("[[" + "[[".join(rows))
    # then nobody guesses which of them counts
    with pytest.raises(ConfigError, match="'Clean': expected one for each time, got two"):
        read_registry(path)


def test_an_operator_of_china_is_no_finding(world: World) -> None:
    # given the sample's own chains, of which one is Chinese from top to bottom
    registry = world.place("us").region.law.registry()
    # then there is nothing to say about any
    parties = world.agreement.terms.regions
    assert [owners_of(party, registry) for party in parties] == [()] * len(parties)
