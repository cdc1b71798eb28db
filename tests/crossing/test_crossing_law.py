"""A region's law asks its own books: what a counterparty says of itself changes no answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.places.forging import update, write_payload
from tests.places.founding import EXAMPLES
from tests.places.world import World

from ringfence.cli.agreement_text import render
from ringfence.core.agreement import parse_agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import ConfigError, Refused
from ringfence.crossing.decide import Draft, decide, still_permitted, verdict_stands
from ringfence.crossing.law import contributors, data_classes, judge, question
from ringfence.crossing.papers import seal_approval
from ringfence.crossing.planning import plan, planned_questions
from ringfence.crossing.region import Region
from ringfence.crossing.registry import parse_registry, read_registry
from ringfence.policy.approvals import ApprovalId
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Question
from ringfence.policy.request import cedar_request
from ringfence.policy.words import Action

HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.fixture
def cn(world: World) -> Region:
    """China's region: the one that needs the most papers."""
    return world.place("cn").region


@pytest.fixture
def declared(world: World, tmp_path: Path) -> Declaration:
    """China's update, as it should be declared."""
    return update(world, "cn", write_payload(world, tmp_path / "payload"))


def _decided(region: Region, declared: Declaration) -> Declaration:
    draft = Draft(
        kind=declared.kind,
        lineage=declared.lineage,
        round=declared.round,
        parent=declared.parent,
        model="",
        layout=declared.layout,
        codec=declared.codec,
        payload=declared.payload,
        inputs=declared.inputs,
        jurisdictions=declared.jurisdictions,
        examples=declared.examples,
    )
    return decide(region, draft, recipient="hub")


# ── facts ──


def test_an_update_of_too_few_examples_stays_where_it_is(cn: Region, declared: Declaration) -> None:
    # given an agreement whose numbers need fifty examples in every cell
    at, below = (replace(declared, examples=count) for count in (50, 49))
    # when an update of as many, and of one less, is to leave
    ruling = judge(cn.law, at, action=Action.EXPORT)
    with pytest.raises(Refused) as refusal:
        judge(cn.law, below, action=Action.EXPORT)
    # then the second does not
    assert ruling.verdict.permitted
    assert refusal.value.rules == ("PLAT-COHORT",)


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": "prc_3a090"},
        {"data_classes": ()},
        {"data_classes": ("raw",)},
        {"purpose": "military"},
        {"issued": "1999-01-01T00:00:00Z"},
        {"examples": 10**9},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_what_a_counterparty_declares_of_itself_is_not_asked(
    world: World, declared: Declaration, changes: dict[str, Any]
) -> None:
    # given a declaration that says something else of what the agreement or the registry knows
    law = world.hub.region.law
    # when the hub's law is asked about both
    questions = [
        question(law, each, action=Action.IMPORT)
        for each in (declared, replace(declared, **changes))
    ]
    # then it is the same question
    assert questions[0] == questions[1]


def test_operations_are_those_before_the_plan_and_the_most_that_it_can_add(cn: Region) -> None:
    # given an agreement of some rounds, in which every example costs a little
    agreed = cn.law.agreement
    training = replace(agreed.terms.training, operations_per_example=1e12)
    terms = replace(agreed.terms, training=training)
    agreement = parse_agreement(render(terms).encode())
    rounds = sum(line.until_round * len(line.contributors) for line in terms.lineages)
    # when the law is asked about an item
    before = cn.law.registry().training_ops
    law = dataclasses.replace(cn.law, agreement=agreement)
    _, asked = next(planned_questions(law, plan(agreement)))
    # then both are in the fact
    assert before is not None
    assert isinstance(asked, Question)
    assert asked.compute is not None
    assert asked.compute.training_ops == before + rounds * EXAMPLES * 1e12
    assert agreed.planned_operations == rounds * EXAMPLES * 1e6


def test_a_plan_that_passes_a_line_by_little_is_above_it(cn: Region) -> None:
    # given a training that has taken exactly as many operations as US-EAR-4E091 allows
    agreed = cn.law.agreement
    training = replace(agreed.terms.training, operations_per_example=1.0)
    agreement = parse_agreement(render(replace(agreed.terms, training=training)).encode())
    registry = parse_registry(b"training_ops = 1e26")
    law = dataclasses.replace(cn.law, agreement=agreement, registry=lambda: registry)
    # when a plan adds fewer to them than a float of that size can tell
    _, asked = next(planned_questions(law, plan(agreement)))
    # then the packs are told of more
    assert isinstance(asked, Question)
    flow = json.loads(cedar_request(asked, coverage(asked)).flow)
    assert flow["compute"]["training_exaops"] == 10**8 + 1


def test_the_tags_bring_every_region_that_trains_under_them(world: World) -> None:
    # given tags that three regions train under, and one that nobody does
    # when the contributors are looked for, then Europe's hub, which trains nothing, is not one
    assert contributors(world.agreement, ("CN", "EU", "US")) == ("cn", "de", "us")
    assert contributors(world.agreement, ("EU",)) == ("de",)
    assert contributors(world.agreement, ("JP",)) == ()


def test_a_derived_item_has_every_class_of_its_lineage(world: World) -> None:
    # given an American model in which China had a part
    # when its classes are looked for, then they are China's as well (PLAT-DERIVED)
    assert data_classes(world.agreement, ("US",)) == ("personal",)
    assert data_classes(world.agreement, ("CN", "US")) == ("geographic", "important", "personal")


# ── when the answer changes ──


def test_a_verdict_stands_while_the_law_answers_alike(cn: Region, declared: Declaration) -> None:
    # given a permit
    permitted = _decided(cn, declared)
    # when the law is asked again at once, then it stands
    assert still_permitted(cn, permitted)
    assert permitted.verdict.approvals
    assert any(pack.startswith("cn@sha256:") for pack in permitted.verdict.packs)


def test_a_verdict_ends_after_an_hour(world: World, cn: Region, declared: Declaration) -> None:
    # given a permit
    permitted = _decided(cn, declared)
    # when an hour has passed
    world.clock.now_s += HOUR_S - 1
    before = verdict_stands(cn, permitted)
    world.clock.now_s += 1
    # then it has ended, to the second
    assert before
    assert not verdict_stands(cn, permitted)


def test_an_offer_is_signed_anew_before_the_other_end_finds_it_old(
    world: World, cn: Region, declared: Declaration
) -> None:
    # given a permit that was issued four minutes ago
    permitted = _decided(cn, declared)
    world.clock.now_s += 241
    # when it would be offered, then it is decided anew, though its verdict holds
    assert verdict_stands(cn, permitted)
    assert not still_permitted(cn, permitted)


def test_a_screening_counts_for_a_day(world: World, cn: Region, declared: Declaration) -> None:
    # given screenings of yesterday
    world.clock.now_s += DAY_S
    # when the law is asked, then what needs a screening is refused
    with pytest.raises(Refused) as caught:
        judge(world.place("us").region.law, replace(declared, sender="us"), action=Action.EXPORT)
    assert any(rule.startswith("US-EAR") for rule in caught.value.rules)


def test_every_approval_runs_out(world: World, cn: Region, declared: Declaration) -> None:
    # given papers that hold for half a year
    permitted = _decided(cn, declared)
    # when the year is over
    world.clock.now_s += 365 * DAY_S
    # then none covers the crossing any more
    with pytest.raises(Refused) as caught:
        still_permitted(cn, permitted)
    assert caught.value.reason == "law"


@pytest.mark.parametrize("how", ["revoked in the registry", "taken away"])
def test_a_missing_paper_stops_the_next_decision(
    world: World, cn: Region, declared: Declaration, how: str
) -> None:
    # given a permit that rests on papers
    permitted = _decided(cn, declared)
    paper = next(p for p in permitted.verdict.approvals if p.startswith("cac.assessment"))
    home = world.homes["cn"]
    # when one of them goes
    if how == "taken away":
        (home.approvals / f"{paper.replace('/', '-')}.dsse.json").unlink()
    else:
        facts = home.facts.read_text()
        home.facts.write_text(facts.replace("revoked = []", f'revoked = ["{paper}"]'))
    # then the next question is answered without it
    with pytest.raises(Refused) as caught:
        still_permitted(cn, permitted)
    assert "CN-AUTO-2026" in caught.value.rules


# ── papers ──


def test_a_paper_that_a_stranger_signed_stops_everything(world: World, cn: Region) -> None:
    # given an approval whose signature is of a counsel that no agreement names for its holder
    genuine = next(p for p in cn.law.approvals() if p.id.startswith("cac"))
    forged = seal_approval(genuine, world.signer("us", "counsel"))
    path = world.homes["cn"].approvals / "forged.dsse.json"
    path.write_bytes(forged)
    # when the papers are read, then a person must look at it, and is told where
    with pytest.raises(ConfigError, match=r"forged\.dsse\.json"):
        cn.law.approvals()


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"\xff" * 10, None], ids=["empty", "no", "binary", "cut"]
)
def test_a_damaged_paper_stops_everything(world: World, cn: Region, damage: bytes | None) -> None:
    # given a paper whose file was cut, emptied or overwritten
    path = next(iter(sorted(world.homes["cn"].approvals.glob("cac*"))))
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    # when the papers are read, then a person must look at it
    with pytest.raises(ConfigError, match=path.name):
        cn.law.approvals()


def test_a_paper_that_is_being_written_is_not_read(world: World, cn: Region) -> None:
    # given a file that has not its final name yet, and a link to a paper that was just removed
    home = world.homes["cn"]
    before = cn.law.approvals()
    (home.approvals / "new.dsse.json.tmp").write_bytes(b"half")
    (home.approvals / "gone.dsse.json").symlink_to(home.approvals / "nowhere")
    # when the papers are read, then they are the same as before
    assert cn.law.approvals() == before


def test_a_new_paper_counts_from_the_next_decision_on(world: World, cn: Region) -> None:
    # given a new approval
    genuine = next(p for p in cn.law.approvals() if p.id.startswith("cac"))
    again = _renamed(genuine, "second")
    path = world.homes["cn"].approvals / "second.dsse.json"
    # when counsel puts it in its place
    path.write_bytes(seal_approval(again, world.signer("cn", "counsel")))
    # then it is there
    assert again in cn.law.approvals()


def _renamed(approval: Any, name: str) -> Any:
    values = {field: getattr(approval, field) for field in approval.__slots__}
    return type(approval)(**values | {"id": ApprovalId(name)})


# ── the registry ──


def test_a_region_that_registered_nothing_lets_nothing_out(
    world: World, cn: Region, declared: Declaration
) -> None:
    # given no facts at all
    world.homes["cn"].facts.unlink()
    # when the law is asked, then what needs a fact is refused
    with pytest.raises(Refused):
        judge(cn.law, declared, action=Action.EXPORT)


def test_the_newest_registration_counts(tmp_path: Path) -> None:
    # given two screenings of one operator, the newer one listed
    rows = "".join(
        f'[[screenings]]\nname = "x"\nseat = "EU"\nat = "{at}"\nus_listed = {listed}\n'
        "cn_listed = false\ndispersed = 100\n"
        for at, listed in (("2026-11-20T00:00:00Z", "true"), ("2026-11-19T00:00:00Z", "false"))
    )
    (tmp_path / "facts.toml").write_text(rows)
    # when it is looked for
    registry = read_registry(tmp_path / "facts.toml")
    screening = registry.screening("x", now_s=from_rfc3339("2026-11-20T09:00:00Z"))
    # then it is the newer, whatever the order of the rows
    assert screening is not None
    assert screening.us_listed


@pytest.mark.parametrize(
    "text",
    [
        "training_ops = 'many'",
        "training_ops = -1.0",
        "unknown = 1",
        "[[screenings]]\nname = 'x'",
        "[counters]\ncn_people = -1\ncn_sensitive_people = 0\nus_people = 0\nus_devices = 0",
        "[[extractions]]\nlineage = 'world'\npassed = true\ntested_at = 'soon'\nevidence = 'none'",
        "revoked = [",
    ],
)
def test_a_malformed_registry_is_our_own_fault(tmp_path: Path, text: str) -> None:
    # given facts that cannot be read
    path = tmp_path / "facts.toml"
    path.write_text(text)
    # when they are, then a person is told which file to mend
    with pytest.raises(ConfigError, match=r"facts\.toml"):
        read_registry(path)
