"""Tags follow ancestry: whoever says more or less than what went in is found, by the log alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.places.forging import sealed, update, write_payload
from tests.places.records import asked_anew
from tests.places.world import US_MARKET, WORLD, World, refused, to_evaluating

from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import Declaration, Input, statement_digest
from ringfence.core.errors import LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.ancestry import start_of
from ringfence.crossing.audit import Audit
from ringfence.crossing.entries import Entry
from ringfence.crossing.statements import seal_declaration

replace = msgspec.structs.replace


def audited(world: World, entries: list[Entry], owner: str = "hub", *, whole: bool = True) -> Audit:
    agreements = {world.agreement.digest: world.agreement}
    audit = Audit(owner=RegionId(owner), agreements=agreements, whole=whole)
    for index, entry in enumerate(entries):
        audit.read(index, entry.to_bytes())
    return audit


def retold(
    world: World, change: Callable[[Declaration], dict[str, Any] | None], name: str = "hub"
) -> list[Entry]:
    """A log in which some statements say something else, well signed, and everything agrees.

    The law was asked about what they say.
    """
    renamed: dict[str, str] = {}
    verdicts: dict[str, int] = {}
    told: list[Entry] = []
    declared = {s.index: s.declaration for s in audited(world, world.entries(name), name).seen}
    for index, entry in enumerate(world.entries(name)):
        entry = replace(
            entry,
            subject=renamed.get(entry.subject, entry.subject),
            inputs=tuple(renamed.get(digest, digest) for digest in entry.inputs),
        )
        declaration = declared[index]
        changes = None if declaration is None else change(declaration)
        if entry.kind == "verdict":
            verdicts[entry.subject] = len(told)
        if declaration is not None and changes is not None:
            signer = world.signer(declaration.sender)
            other = replace(declaration, **changes)
            if entry.kind != "admission":
                exported = declaration.sender == name
                at = verdicts[declaration.verdict.question if exported else entry.inputs[0]]
                told[at] = asked_anew(told[at], world.agreement, other, name)
                note = replace(other.verdict, question=told[at].subject)
                other = replace(other, verdict=note) if exported else other
                entry = replace(entry, inputs=() if exported else (told[at].subject,))
            envelope = seal_declaration(other, signer)
            renamed[entry.subject] = statement_digest(envelope)
            subject = entry.subject if entry.kind == "admission" else statement_digest(envelope)
            entry = replace(entry, subject=subject, envelope=envelope.decode())
        if entry.kind != "receipt":
            told.append(entry)
    return told


def second_round(world: World) -> None:
    world.run_to(WORLD, 1, "released")
    world.run_to(WORLD, 2, "released")


def test_a_log_whose_updates_wash_off_the_tags_of_their_base_does_not_hold(world: World) -> None:
    # given two rounds, and a story in which everybody forgot China in the second
    second_round(world)
    china = {"jurisdictions": ("EU", "US")}

    def forget(declaration: Declaration) -> dict[str, Any] | None:
        if declaration.round < 2 or declaration.sender == "cn":
            return None
        return china

    story = retold(world, forget)
    # when, then
    with pytest.raises(LogError, match=r"update of de lacks the jurisdictions \['CN'\]"):
        audited(world, story)


def test_a_log_whose_updates_bear_what_nothing_brings_does_not_hold(world: World) -> None:
    # given a story in which Germany's first update bears America's tag, without regional state
    world.run_to(WORLD, 1, "released")

    def more(declaration: Declaration) -> dict[str, Any] | None:
        if (declaration.kind, declaration.sender) != ("update", "de"):
            return None
        return {"jurisdictions": ("EU", "US")}

    # when, then
    with pytest.raises(LogError, match=r"bears the jurisdictions \['US'\]"):
        audited(world, retold(world, more))


def test_regional_state_that_is_declared_may_bring_a_tag(world: World) -> None:
    # given the same story, in which Germany declares that it started from regional state
    world.run_to(WORLD, 1, "released")
    state = Input(role="state", digest="sha256:" + "5" * 64)

    def with_state(declaration: Declaration) -> dict[str, Any] | None:
        if (declaration.kind, declaration.sender) != ("update", "de"):
            return None
        return {"jurisdictions": ("EU", "US"), "inputs": (*declaration.inputs, state)}

    # when, then
    audited(world, retold(world, with_state))


def test_a_merge_onto_something_else_than_the_newest_release_does_not_hold(world: World) -> None:
    # given a second round whose every statement says that it was on the start
    second_round(world)
    start = world.agreement.lineage(WORLD).start.model

    def on_the_start(declaration: Declaration) -> dict[str, Any] | None:
        return {"parent": start} if declaration.round == 2 else None

    story = [
        replace(e, inputs=(start, *e.inputs[1:])) if e.kind == "merge" and e.round == 2 else e
        for e in retold(world, on_the_start)
    ]
    # when, then
    with pytest.raises(LogError, match="expected parent"):
        audited(world, story)


@pytest.mark.parametrize("kind", ["candidate", "release"])
def test_a_regions_own_log_does_not_hold_when_its_own_tag_was_washed_off(
    world: World, kind: str
) -> None:
    # given Germany's log, in which the hub's word of what Germany's update went into lacks it
    second_round(world)

    def washed(declaration: Declaration) -> dict[str, Any] | None:
        return {"jurisdictions": ("CN", "US")} if declaration.kind == kind else None

    story = retold(world, washed, "de")
    # when, then
    with pytest.raises(LogError, match=r"\['EU'\] are missing"):
        audited(world, story, "de")


def test_an_update_with_a_tag_that_nothing_brings_is_refused(world: World) -> None:
    # given Germany's first update, with America's tag and no regional state
    payload = write_payload(world, world.path / "payload")
    honest = update(world, "de", payload, tags=("EU", "US"))
    # when it is offered, then it is refused and recorded
    with refused(world, "tags-unfounded", at="intake", counterparty="de"):
        world.place("de").line.offer(sealed(world, honest))


def test_a_candidate_whose_tags_were_changed_is_held_and_never_released(world: World) -> None:
    # given a journal in which somebody has taken China out of the candidate
    to_evaluating(world)
    for name in world.agreement.lineage(WORLD).recipients:
        world.place(name).turn(WORLD)
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    assert round_.candidate is not None
    assert round_.candidate.jurisdictions == ("CN", "EU", "US")
    world.hub.journal.start_evaluating(
        lineage=WORLD,
        round_=1,
        candidate=replace(round_.candidate, jurisdictions=("EU", "US")),
        now_s=world.clock(),
    )
    # when the round should end
    advance(world.hub, WORLD)
    # then it is held, the log says why, and nobody hears of a release
    held = world.hub.journal.current_round(WORLD)
    assert held is not None
    assert (held.state, held.reason.split(": ")[1]) == ("held", "wrong-tags")
    last = world.entries()[-1]
    assert last.refusal is not None
    assert last.refusal.reason == "wrong-tags"
    assert "release" not in {entry.kind for entry in world.entries()}


def test_a_branch_off_what_was_never_released_has_no_start(world: World) -> None:
    # given a lineage that branches off a model that nobody has released
    market = world.agreement.lineage(US_MARKET)
    elsewhere = replace(market, start=replace(market.start, model="chunked-blake3:" + "0" * 64))
    # when its start is looked for
    # then its tags are not known, while those of a branch off the start are none
    assert start_of(world.agreement, elsewhere, {}).tags is None
    assert start_of(world.agreement, market, {}).tags == ()
