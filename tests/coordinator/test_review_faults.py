"""One region cannot stop the hub, and one lineage's trouble is not another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.places.forging import measurement, sealed, update, write_payload
from tests.places.founding import Founded, Template
from tests.places.world import US_MARKET, WORLD, World, opened, refused

from ringfence.coordinator.engine import _advance_all, _prepare
from ringfence.coordinator.journal import Round
from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.errors import Refused, StateError
from ringfence.core.ids import LineageId, RegionId
from ringfence.core.terms import Terms
from ringfence.crossing.signatures import sign_agreement


def _signed(world: World) -> None:
    """Every region signs, as gateways do when they start; then the hub's engine is prepared."""
    for region in world.agreement.regions():
        envelope = sign_agreement(world.agreement, region, world.signer(region))
        world.hub.signatures.keep(
            agreement=world.agreement.digest, region=region, envelope=envelope
        )
    _prepare(world.hub)


def _round(world: World, lineage: LineageId = WORLD) -> Round:
    round_ = world.hub.journal.current_round(lineage)
    assert round_ is not None
    return round_


def _advance(world: World) -> None:
    advance(world.hub, WORLD)


def _submit(world: World, declaration: Declaration, path: Path) -> bytes:
    envelope = sealed(world, declaration)
    sender = RegionId(declaration.sender)
    reply = world.service.offer(sender, envelope)
    assert reply.next_chunk == 0
    upload = world.service.begin_upload(sender, statement_digest(envelope), 0)
    upload.write_chunk(0, memoryview(path.read_bytes()))
    return upload.finish()


def test_refuses_an_update_longer_than_the_clip_bound(world: World, tmp_path: Path) -> None:
    # given a finite update far above the agreed bound of 100
    path = tmp_path / "payload"
    declared = update(world, "cn", write_payload(world, path, 3.4e38))
    # when it arrives whole, then it is refused and its bytes are let go
    with pytest.raises(Refused, match="clip-bound"):
        _submit(world, declared, path)
    assert world.entries()[-1].refusal.reason == "clip-bound"  # type: ignore[union-attr]
    assert not world.hub.spool_of("cn").payload(declared.payload.digest).exists()  # type: ignore[union-attr]


def test_takes_an_update_as_long_as_the_clip_bound(world: World, tmp_path: Path) -> None:
    # given an update that was clipped to the bound
    elements = world.agreement.update_layout.elements
    path = tmp_path / "payload"
    declared = update(world, "cn", write_payload(world, path, 100 / np.sqrt(elements)))
    # when it arrives, then it is received
    assert _submit(world, declared, path)


def test_refuses_more_examples_than_agreed(world: World, tmp_path: Path) -> None:
    # given an update that would own the merge
    declared = update(world, "cn", write_payload(world, tmp_path / "payload"))
    # when it is offered, then it is refused
    with refused(world, "examples", at="intake"):
        world.service.offer(RegionId("cn"), sealed(world, declared, examples=10**18))


def test_refuses_a_measurement_that_says_more_than_the_gate_asks(world: World) -> None:
    # given a candidate, and a measurement of two agreed metrics
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    for _ in range(2):
        _advance(world)
    told = measurement(world, "cn", accuracy=50.0, loss=0.5)
    # when it is offered, then it is refused
    with refused(world, "unasked-metric", at="intake"):
        world.service.offer(RegionId("cn"), sealed(world, told))


def test_a_step_that_fails_holds_its_round_and_no_other(founded: Founded, tmp_path: Path) -> None:
    # given an agreement whose step overflows: a learning rate of 3e38
    with opened(_with_rate(founded, tmp_path / "agreed", 3e38), tmp_path / "copy") as world:
        _signed(world)
        for name in ("cn", "de", "us"):
            world.place(name).turn(WORLD)
        for name in ("de", "us"):
            world.place(name).turn(US_MARKET)
        # when the engine takes its steps
        for _ in range(4):
            _advance_all(world.hub)
        # then the round is held, with its reason in the log, and the other lineage went on
        first = world.hub.journal.round(WORLD, 1)
        assert first is not None
        assert "step-failed: merging: NotFiniteError" in first.reason
        held = [e for e in world.entries() if e.refusal and e.refusal.reason == "step-failed"]
        assert [(e.lineage, e.round) for e in held] == [("world", 1)]
        released = world.hub.journal.release(US_MARKET)
        assert released is not None
        assert released.round == 1
        # and the next round opens on the same model
        assert (_round(world).round, _round(world).parent) == (2, first.parent)


def _with_rate(founded: Founded, path: Path, rate: float) -> Template:
    def change(terms: Terms) -> Terms:
        world, market = terms.lineages
        return replace(
            terms, lineages=(replace(world, outer=replace(world.outer, lr=rate)), market)
        )

    return founded.agree(path, change)


def test_our_own_damaged_files_stop_the_hub(world: World) -> None:
    # given a round whose parent model is gone from our disk
    _signed(world)
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    world.hub.spool.model(_round(world).parent).unlink()
    assert _advance_all(world.hub)  # intake is closed
    # when the engine merges, then it stops and holds nothing
    with pytest.raises(StateError):
        _advance_all(world.hub)
    assert _round(world).state == "merging"


def test_half_written_facts_hold_nothing_and_blame_nobody(world: World) -> None:
    # given facts of the hub that somebody is writing
    _signed(world)
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    facts = world.homes["hub"].facts
    whole = facts.read_text()
    facts.write_text(whole[: len(whole) // 2] + '\nat = "19')
    # when the engine goes on meanwhile
    for _ in range(3):
        _advance_all(world.hub)
    # then it waits, and says so once
    assert _round(world).state in ("open", "collecting")
    blamed = [entry for entry in world.entries() if entry.kind == "refusal"]
    assert [(e.counterparty, e.refusal.reason) for e in blamed] == [("hub", "own-papers")]  # type: ignore[union-attr]
    # and once they are whole it goes on
    facts.write_text(whole)
    for _ in range(3):
        _advance_all(world.hub)
    assert _round(world).state == "evaluating"


def test_a_round_without_quorum_is_held_after_the_second_deadline(world: World) -> None:
    # given one update of two that the quorum wants
    world.place("de").turn(WORLD)
    _advance(world)
    # when the deadline passes once, then twice
    world.clock.now_s += 601
    _advance(world)
    assert _round(world).state == "collecting"
    world.clock.now_s += 600
    _advance(world)
    # then the round is held
    assert _round(world).state == "held"
    assert "no-quorum" in _round(world).reason


def test_a_round_to_which_nobody_came_is_waited_for(world: World) -> None:
    # given regions that are cut off
    # when a week passes
    world.clock.now_s += 7 * 86_400
    _advance(world)
    # then no round is used up
    assert (_round(world).round, _round(world).state) == (1, "open")
