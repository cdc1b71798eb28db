"""No model becomes a base unless the agreement names it or the hub's log shows its release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tests.gateway.lying import Lying
from tests.places.forging import digests_of
from tests.places.founding import initial_model
from tests.places.script import digest_of
from tests.places.world import WORLD, Place, World, refused

from ringfence.core.artifacts import Declaration, payload_of, statement_digest
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import Refused, StateError
from ringfence.core.ids import Digest
from ringfence.core.wire import LineageView
from ringfence.crossing.entries import Entry
from ringfence.crossing.statements import open_own, seal_declaration
from ringfence.gateway.inbound import admit_release, take_candidate
from ringfence.gateway.models import HeldModel
from ringfence.gateway.snapshots import take_snapshot
from ringfence.ledger.disclosure import prove


def test_the_start_is_the_model_that_the_agreement_names(world: World, tmp_path: Path) -> None:
    # given a hub that signs a snapshot of another model for round 0
    de = world.place("de")
    border = _with_snapshot(world, de, _other_model(world, tmp_path))
    # when the gateway starts from it
    with refused(world, "wrong-model", at="inbound", by="de", counterparty="hub"):
        take_snapshot(de.gateway, de.view(), border)
    # then it has no base
    assert de.gateway.models.admitted(WORLD) is None


def test_a_later_snapshot_needs_its_release_record(world: World, tmp_path: Path) -> None:
    # given a hub that says that its model is the release of round 1, and proves that it said so
    de = world.place("de")
    border = _with_snapshot(world, de, _other_model(world, tmp_path), round=1)
    true = statement_digest(de.line.snapshot(WORLD))
    lying = Lying(de.line, snapshot=border.snapshot, disclosure=lambda _: _intent(world, true))
    # when the gateway joins
    with pytest.raises(Refused) as caught:
        take_snapshot(de.gateway, de.view(), lying)
    # then a signature of the hub's alone does not do
    assert caught.value.reason == "not-proven"
    assert de.gateway.models.admitted(WORLD) is None


def test_a_release_is_believed_by_its_record_alone(world: World) -> None:
    # given a release whose proof shows the hub's statement to us, and not the record for all
    de = _before_admission(world)
    lying = Lying(de.line, disclosure=lambda digest: _intent(world, digest))
    # when the gateway is to admit it
    with pytest.raises(Refused) as caught:
        admit_release(de.gateway, de.view(), lying)
    # then it does not
    assert caught.value.reason == "not-proven"
    assert _base_round(de) == 0


def test_a_release_waits_for_a_majority_of_cosignatures(world: World) -> None:
    # given a release whose record no other region has vouched for
    de = _before_admission(world)
    # when the gateway is to admit it, then it waits; and admits it once they have
    assert admit_release(de.gateway, de.view(), de.line) == "waiting"
    assert _base_round(de) == 0
    for name in ("cn", "us"):
        world.place(name).turn()
    assert de.turn()
    assert _base_round(de) == 1


def test_a_region_that_missed_the_candidate_takes_a_proven_snapshot(world: World) -> None:
    # given a region that was away while the round was measured and released
    de = _before_admission(world)
    _vouched(world)
    de.gateway.models.hold(_forgotten(de))
    # when it comes back
    de.turn()
    # then it stands on the release, by the statement that the hub addressed to it
    admitted = de.gateway.models.admitted(WORLD)
    assert admitted is not None
    assert (admitted.round, admitted.statement) == (1, de.view().release)


def test_a_snapshot_may_not_change_what_is_frozen(world: World, tmp_path: Path) -> None:
    # given a release, and a hub that hands over another model in its place, under its name
    de = _before_admission(world)
    _vouched(world)
    other = _other_model(world, tmp_path)
    border = _with_snapshot(world, de, other, round=1)
    release = open_own(world.hub.region, de.line.statement(Digest(de.view().release or "")))
    forged = replace(release, model=_payload(other).digest)
    # when a gateway that was told so takes it
    with pytest.raises(Refused) as caught:
        take_snapshot(de.gateway, de.view(), border, release=forged)
    # then what is frozen is compared with its base
    assert caught.value.reason == "frozen-changed"


def test_a_candidate_bears_the_tags_of_what_went_in(world: World) -> None:
    # given a candidate that our own update went into, without our jurisdiction
    de = _evaluating(world)
    view = de.view()
    true = open_own(world.hub.region, de.line.statement(Digest(view.candidate or "")))
    tags = tuple(code for code in true.jurisdictions if code != "EU")
    # when the gateway is to take it, then it refuses
    with refused(world, "tags-missing", at="inbound", by="de", counterparty="hub"):
        _take(world, de, view, replace(true, jurisdictions=tags))


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-parent", {"parent": digest_of("another base")}),
        ("wrong-base", {"inputs": ()}),
        ("wrong-round", {"round": 2}),
        ("wrong-layout", {"layout": digest_of("another layout")}),
    ],
)
def test_a_candidate_builds_on_our_base(world: World, reason: str, changes: dict[str, Any]) -> None:
    # given a candidate that was built on something else, by what it declares
    de = _evaluating(world)
    view = de.view()
    true = open_own(world.hub.region, de.line.statement(Digest(view.candidate or "")))
    # when the gateway is to take it, then it refuses
    with refused(world, reason, at="inbound", by="de", counterparty="hub"):
        _take(world, de, view, replace(true, **changes))


def test_what_was_admitted_stays_admitted(world: World) -> None:
    # given an admitted base
    de = world.place("de")
    de.turn()
    base = de.gateway.models.admitted(WORLD)
    assert base is not None
    # when something would make it a candidate, or another model
    for changed in ({"admitted": False}, {"model": digest_of("another")}):
        with pytest.raises(StateError):
            de.gateway.models.hold(_changed(base, **changed))
    # then it is what it was
    assert de.gateway.models.admitted(WORLD) == base


# ── given ──


def _evaluating(world: World) -> Place:
    """Everybody has sent; the hub has merged; de has not looked at the candidate yet."""
    world.run_to(WORLD, 1, "evaluating")
    return world.place("de")


def _before_admission(world: World) -> Place:
    """Round 1 is released and nobody has admitted it."""
    world.run_to(WORLD, 1, "released")
    return world.place("de")


def _vouched(world: World) -> None:
    for name in ("cn", "us"):
        world.place(name).turn()


def _forgotten(place: Place) -> HeldModel:
    """In the place of the candidate, one that was never released."""
    held = place.gateway.models.of_round(WORLD, 1)
    assert held is not None
    return _changed(held, model=digest_of("another candidate"))


def _changed(held: HeldModel, **changes: Any) -> HeldModel:
    values = {name: getattr(held, name) for name in HeldModel.__slots__} | changes
    return HeldModel(**values)


def _base_round(place: Place) -> int:
    base = place.gateway.models.admitted(WORLD)
    assert base is not None
    return base.round


def _take(world: World, place: Place, view: LineageView, forged: Declaration) -> None:
    envelope = seal_declaration(forged, world.signer("hub"))
    shown = replace(view, candidate=statement_digest(envelope))
    take_candidate(place.gateway, shown, Lying(place.line, statement=lambda digest: envelope))


def _other_model(world: World, directory: Path) -> bytes:
    """A model of the agreed layout, every tensor of it different."""
    initial_model(directory)
    data = bytearray((directory / "initial.safetensors").read_bytes())
    count = world.agreement.model_layout.elements
    data[-4 * count :] = np.arange(count, dtype="<f4").tobytes()
    return bytes(data)


def _payload(model: bytes) -> Any:
    return payload_of(digests_of(model))


def _with_snapshot(world: World, place: Place, model: bytes, **changes: Any) -> Lying:
    """A hub that signs a snapshot of `model` for this region."""
    payload = _payload(model)
    true = open_own(world.hub.region, place.line.snapshot(WORLD))
    named = {"model": payload.digest, "parent": payload.digest, "payload": payload}
    envelope = seal_declaration(replace(true, **named, **changes), world.signer("hub"))

    def download(digest: Digest, *, chunk: int, size_bytes: int, sink: Any) -> None:
        for index in range(chunk, -(-len(model) // CHUNK_BYTES)):
            sink(index, memoryview(model[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]))

    return Lying(place.line, snapshot=lambda lineage: envelope, download=download)


def _intent(world: World, statement: str) -> bytes:
    """The proof that the hub said something to us, under a checkpoint of now."""
    log = world.hub.region.log
    note = log.checkpoint()
    for opening in log.openings():
        entry = Entry.from_bytes(opening.content)
        if (entry.kind, entry.subject) == ("intent", statement):
            return prove(log, opening.index, note)
    raise AssertionError(f"no intent of {statement}")
