"""A hub that lies about candidates, releases and snapshots, or a courier who changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tests.gateway.lying import Lying
from tests.places.forging import digests_of, write_payload
from tests.places.founding import digest_of
from tests.places.world import US_MARKET, WORLD, Place, World, refused

from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import Declaration, payload_of, statement_digest
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import BorderDownError, Refused
from ringfence.core.ids import Digest, LineageId
from ringfence.crossing.statements import open_own, seal_declaration
from ringfence.gateway.inbound import admit_release, take_candidate
from ringfence.gateway.models import HeldModel
from ringfence.gateway.snapshots import take_snapshot
from ringfence.gateway.witnessing import watch
from ringfence.gateway.worker import take_turn

REFUSED = {"at": "inbound", "by": "de", "counterparty": "hub"}


def _proven(released: World) -> Place:
    """Everybody else has vouched for the release; de has seen its checkpoint too."""
    for name in ("cn", "us"):
        released.place(name).turn(WORLD)
    de = released.place("de")
    watch(de.gateway, de.view(), de.line)
    return de


def _candidate(world: World, place: Place, lineage: LineageId = WORLD) -> Declaration:
    digest = Digest(place.view(lineage).candidate or "")
    return open_own(world.hub.region, place.line.statement(digest))


def _take(world: World, place: Place, forged: Declaration, **answers: Any) -> HeldModel:
    """Show the gateway this candidate, signed by the hub."""
    envelope = seal_declaration(forged, world.signer("hub"))
    view = replace(place.view(LineageId(forged.lineage)), candidate=statement_digest(envelope))
    lying = Lying(place.line, statement=lambda digest: envelope, **answers)
    return take_candidate(place.gateway, view, lying)


def _serving(data: bytes) -> Callable[..., None]:
    def download(
        digest: Digest, *, chunk: int, size_bytes: int, sink: Callable[[int, memoryview], None]
    ) -> None:
        for index in range(chunk, -(-len(data) // CHUNK_BYTES)):
            sink(index, memoryview(data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]))

    return download


def _payload_bytes(place: Place, declared: Declaration) -> bytes:
    assert declared.payload is not None
    pieces: list[bytes] = []
    place.line.download(
        Digest(declared.payload.digest),
        chunk=0,
        size_bytes=declared.payload.size_bytes,
        sink=lambda index, chunk: pieces.append(bytes(chunk)),
    )
    return b"".join(pieces)


# ── candidates ──


def test_refuses_a_candidate_that_was_changed_on_its_way_and_takes_the_right_one_then(
    evaluating: World,
) -> None:
    # given a candidate of which a courier flips one bit
    de = evaluating.place("de")
    true = _candidate(evaluating, de)
    data = bytearray(_payload_bytes(de, true))
    data[-1] ^= 1
    with refused(evaluating, "malformed", **REFUSED) as caught:
        _take(evaluating, de, true, download=_serving(bytes(data)))
    assert "differ from the signed digest" in caught.value.detail
    # when it comes as it was signed
    held = take_candidate(de.gateway, de.view(), de.line)
    # then the model is held
    assert held.model == true.model
    assert de.gateway.spool.holds_model(true.model)


@pytest.mark.parametrize("cut", [-1, -8, 0], ids=["a byte", "two values", "all of it"])
def test_refuses_a_candidate_that_ends_early(evaluating: World, cut: int) -> None:
    # given a payload that a courier cuts
    de = evaluating.place("de")
    true = _candidate(evaluating, de)
    data = _payload_bytes(de, true)
    # when it comes, then it is refused, and no model is kept
    with refused(evaluating, "malformed", **REFUSED):
        _take(evaluating, de, true, download=_serving(data[:cut] if cut else b""))


def test_refuses_a_candidate_that_yields_another_model_than_named(
    evaluating: World, tmp_path: Any
) -> None:
    # given a hub that signs one merged update and names the model of another
    de = evaluating.place("de")
    true = _candidate(evaluating, de)
    other = write_payload(evaluating, tmp_path / "other", 0.125)
    data = (tmp_path / "other").read_bytes()
    # when the gateway adds it to its base, then it gets another model, and says so
    with refused(evaluating, "wrong-model", **REFUSED, may_change=("files",)) as caught:
        _take(evaluating, de, replace(true, payload=other), download=_serving(data))
    assert true.model in caught.value.detail
    assert de.gateway.models.of_round(WORLD, 1) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_a_candidate_with_numbers_that_are_none(evaluating: World, value: float) -> None:
    # given a hub that signs such a payload
    de = evaluating.place("de")
    true = _candidate(evaluating, de)
    data = _payload_bytes(de, true)[:-4] + np.float32(value).tobytes()
    forged = replace(true, payload=payload_of(digests_of(data)))
    # when it comes, then it is refused, and the tensor named
    with refused(evaluating, "malformed", **REFUSED, may_change=("files",)) as caught:
        _take(evaluating, de, forged, download=_serving(data))
    assert "head.bias" in caught.value.detail


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-kind", {"kind": "snapshot"}),
        ("wrong-lineage", {"lineage": "us-market"}),
        ("wrong-round", {"round": 3}),
        ("wrong-codec", {"codec": "int8"}),
        ("wrong-codec", {"codec": "none", "payload": None}),
        ("wrong-size", {"payload": payload_of(digests_of(bytes(100)))}),
        ("unasked-metric", {"metrics": {"faces_seen": 12.0}}),
        ("unasked-metric", {"examples": 100}),
        ("verdict-expired", {}),
    ],
)
def test_refuses_a_candidate_that_is_something_else(
    evaluating: World, reason: str, changes: dict[str, Any]
) -> None:
    # given a statement of the hub that is right but for one field
    de = evaluating.place("de")
    true = _candidate(evaluating, de)
    if reason == "verdict-expired":
        changes = {"verdict": replace(true.verdict, valid_until=true.issued)}
    envelope = seal_declaration(replace(true, **changes), evaluating.signer("hub"))
    view = replace(de.view(), candidate=statement_digest(envelope))
    # when it is shown as the candidate, then it is refused for that
    with refused(evaluating, reason, **REFUSED):
        take_candidate(de.gateway, view, Lying(de.line, statement=lambda digest: envelope))


@pytest.mark.parametrize(
    ("reason", "changes", "signer"),
    [
        ("wrong-recipient", {"recipient": "us"}, "hub"),
        ("wrong-sender", {"sender": "us"}, "hub"),
        ("wrong-agreement", {"agreement": digest_of("another agreement")}, "hub"),
    ],
)
def test_refuses_a_statement_for_somebody_else(
    evaluating: World, reason: str, changes: dict[str, Any], signer: str
) -> None:
    # given a statement that the hub made for another, or for another agreement
    de = evaluating.place("de")
    forged = replace(_candidate(evaluating, de), **changes)
    envelope = seal_declaration(forged, evaluating.signer(signer))
    view = replace(de.view(), candidate=statement_digest(envelope))
    # when it is shown to us, then it is refused
    with refused(evaluating, reason, at="intake", by="de", counterparty="hub"):
        take_candidate(de.gateway, view, Lying(de.line, statement=lambda digest: envelope))


def test_refuses_a_candidate_that_the_hub_did_not_sign(evaluating: World) -> None:
    # given a candidate in the hub's name, signed by China
    de = evaluating.place("de")
    envelope = seal_declaration(_candidate(evaluating, de), evaluating.signer("cn"))
    view = replace(de.view(), candidate=statement_digest(envelope))
    # when it is shown, then it is refused
    with refused(evaluating, "malformed", **REFUSED):
        take_candidate(de.gateway, view, Lying(de.line, statement=lambda digest: envelope))


def test_refuses_another_statement_than_the_one_asked_for(evaluating: World) -> None:
    # given a hub that answers with a true statement, and not with the one that its view names
    de = evaluating.place("de")
    envelope = de.line.statement(Digest(de.view().candidate or ""))
    view = replace(de.view(), candidate=digest_of("another statement"))
    # when it is fetched, then it is refused
    with refused(evaluating, "wrong-statement", **REFUSED):
        take_candidate(de.gateway, view, Lying(de.line, statement=lambda digest: envelope))


def test_refuses_china_in_a_candidate_for_american_roads(world: World) -> None:
    # given a candidate of the American market that carries China's tag
    for name in ("de", "us"):
        world.place(name).turn(US_MARKET)
    while world.hub.journal.current_round(US_MARKET).candidate is None:  # type: ignore[union-attr]
        assert advance(world.hub, US_MARKET)
    de = world.place("de")
    true = _candidate(world, de, US_MARKET)
    tainted = replace(true, jurisdictions=("CN", "EU", "US"), data_classes=_classes(world))
    # when it is shown, then it is refused before a byte of it is fetched
    de.line.downloads.clear()
    with refused(world, "barred-tag", **REFUSED):
        _take(world, de, tainted)
    assert de.line.downloads == []


def _classes(world: World) -> tuple[str, ...]:
    classes = (world.agreement.region(name).data_classes for name in ("cn", "de", "us"))
    return tuple(sorted({one for each in classes for one in each}))


def test_a_cut_candidate_goes_on_where_it_stopped(evaluating: World) -> None:
    # given a candidate whose download is cut behind its last chunk
    de = evaluating.place("de")

    def cut(*asked: Any, **how: Any) -> None:
        de.line.download(*asked, **how)
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        take_candidate(de.gateway, de.view(), Lying(de.line, download=cut))
    # when the line holds again
    fetched = len(de.line.downloads)
    held = take_candidate(de.gateway, de.view(), de.line)
    # then what came before is not fetched again
    assert len(de.line.downloads) == fetched
    assert de.gateway.spool.holds_model(held.model)


def test_a_receipt_lost_on_its_way_costs_no_second_download(evaluating: World) -> None:
    # given a candidate that arrived, whose receipt did not
    de = evaluating.place("de")

    def cut(envelope: bytes) -> None:
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        take_candidate(de.gateway, de.view(), Lying(de.line, accept=cut))
    fetched = len(de.line.downloads)
    # when the line holds again
    held = take_candidate(de.gateway, de.view(), de.line)
    # then it is held, and the hub has its receipt
    assert de.gateway.spool.holds_model(held.model)
    assert len(de.line.downloads) == fetched
    outgoing = evaluating.hub.outbox.addressed(recipient="de", digest=held.statement)
    assert outgoing.receipt is not None


# ── releases ──


def _release(world: World, place: Place) -> Declaration:
    digest = Digest(place.view().release or "")
    return open_own(world.hub.region, place.line.statement(digest))


def _admit(world: World, place: Place, forged: Declaration, **answers: Any) -> Any:
    envelope = seal_declaration(forged, world.signer("hub"))
    true = Digest(place.view().release or "")
    view = replace(place.view(), release=statement_digest(envelope))
    lying = Lying(
        place.line,
        statement=lambda digest: envelope,
        disclosure=lambda digest: place.line.disclosure(true),
        **answers,
    )
    return admit_release(place.gateway, view, lying)


def test_refuses_the_release_of_another_model(released: World) -> None:
    # given a release of a model that was no candidate, with the true release's proof
    de = _proven(released)
    forged = replace(_release(released, de), model=digest_of("another model"))
    # when it is shown, then the log does not bear it out
    with refused(released, "not-proven", **REFUSED):
        _admit(released, de, forged)


def test_refuses_a_release_that_loses_a_tag(released: World) -> None:
    # given a release that says that China had no part in it
    de = _proven(released)
    true = _release(released, de)
    kept = replace(true, jurisdictions=("EU", "US"), data_classes=("personal",))
    # when it is shown, then it is refused: tags do not wear off
    with refused(released, "wrong-jurisdictions", **REFUSED):
        _admit(released, de, kept)


def test_refuses_to_go_back_to_an_older_release(world: World) -> None:
    # given two releases that were admitted, and a hub that shows the first again
    world.run_to(WORLD, 1, "released")
    de = world.place("de")
    first = de.view().release
    world.run_to(WORLD, 3, "open")
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    base = de.gateway.models.admitted(WORLD)
    assert base is not None
    assert base.round == 2
    view = replace(de.view(), release=first)
    # when the gateway looks, then it does not go back
    with refused(world, "wrong-round", **REFUSED):
        take_turn(de.gateway, WORLD, view, de.line)
    assert de.gateway.models.admitted(WORLD) == base


def test_a_region_whose_papers_were_revoked_does_not_admit(world: World) -> None:
    # given a proven release, and China's facts gone in the meantime
    world.run_to(WORLD, 1, "released")
    cn = world.place("cn")
    for name in ("de", "us"):
        world.place(name).turn(WORLD)
    base = cn.gateway.models.admitted(WORLD)
    cn.home.facts.unlink()
    # when it would admit the release
    with pytest.raises(Refused) as caught:
        cn.turn(WORLD)
    # then its own law says no, and its base is what it was
    assert caught.value.stage == "law"
    assert cn.gateway.models.admitted(WORLD) == base
    assert world.entries("cn")[-1].kind == "refusal"


# ── snapshots ──


def test_a_snapshot_is_what_was_asked_for(world: World) -> None:
    # given a gateway without a base, and a hub that signs the start of another kind
    de = world.place("de")
    true = open_own(world.hub.region, de.line.snapshot(WORLD))
    for reason, changes in (
        ("wrong-layout", {"layout": digest_of("another layout")}),
        ("wrong-kind", {"kind": "candidate"}),
        ("wrong-lineage", {"lineage": "us-market"}),
        ("wrong-round", {"round": 99}),
    ):
        envelope = seal_declaration(replace(true, **changes), world.signer("hub"))
        lying = Lying(de.line, snapshot=lambda lineage, envelope=envelope: envelope)
        # when it takes it, then it is refused for that
        with refused(world, reason, **REFUSED):
            take_snapshot(de.gateway, de.view(), lying)


def test_a_cut_snapshot_goes_on_where_it_stopped(world: World) -> None:
    # given a snapshot whose download is cut behind its last chunk
    de = world.place("de")

    def cut(*asked: Any, **how: Any) -> None:
        de.line.download(*asked, **how)
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        take_snapshot(de.gateway, de.view(), Lying(de.line, download=cut))
    fetched = len(de.line.downloads)
    # when the line holds again
    taken = take_snapshot(de.gateway, de.view(), de.line)
    # then nothing is fetched twice
    assert taken
    assert len(de.line.downloads) == fetched
    base = de.gateway.models.admitted(WORLD)
    assert base is not None
    assert base.model == world.agreement.lineage(WORLD).start.model
