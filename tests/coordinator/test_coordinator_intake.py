"""What the hub takes from regions: payloads that came before, statements that were renewed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.places.forging import measurement, sealed, update, write_payload
from tests.places.founding import Founded
from tests.places.world import US_MARKET, WORLD, World, opened, refused

from ringfence.coordinator.intake import Upload, recheck_spool
from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import Declaration, receipt_from_bytes, statement_digest
from ringfence.core.clock import to_rfc3339
from ringfence.core.ids import Digest, RegionId
from ringfence.core.site_wire import Train
from ringfence.core.terms import Terms
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.trust.dsse import open_envelope

CN = RegionId("cn")


@pytest.fixture
def declared(world: World, tmp_path: Path) -> Declaration:
    """China's update, whose payload lies in `tmp_path`."""
    return update(world, "cn", write_payload(world, tmp_path / "payload"))


def _begin(world: World, envelope: bytes) -> Upload:
    reply = world.service.offer(CN, envelope)
    assert reply.next_chunk is not None
    return world.service.begin_upload(CN, statement_digest(envelope), reply.next_chunk)


def _send(world: World, envelope: bytes, payload: Path) -> bytes:
    upload = _begin(world, envelope)
    if upload.size_bytes:
        upload.write_chunk(0, memoryview(payload.read_bytes()))
    return upload.finish()


def _later(world: World, declared: Declaration, seconds: float) -> Declaration:
    """The same declaration, decided anew a while later."""
    world.clock.now_s += seconds
    now_s = world.clock()
    verdict = replace(declared.verdict, valid_until=to_rfc3339(now_s + 3600))
    return replace(declared, issued=to_rfc3339(now_s), verdict=verdict)


def _statement_of(world: World, receipt: str | bytes | None) -> str:
    assert receipt is not None
    data = receipt.encode() if isinstance(receipt, str) else receipt
    opened = open_envelope(
        data,
        public_key=world.signer("hub").public_key,
        payload_type=STATEMENT_PAYLOAD_TYPE,
        limit_bytes=10**6,
        what="receipt",
    )
    return receipt_from_bytes(opened).statement


def test_two_lineages_may_get_equal_payloads(world: World) -> None:
    # given a site whose training gives the same update in both lineages, as after a branch
    us = world.place("us")
    us.script.update = np.zeros_like(us.script.update)
    # when its gateway sends one for each
    us.turn(WORLD)
    us.turn(US_MARKET)
    # then both have arrived
    assert us.view(WORLD).submitted
    assert us.view(US_MARKET).submitted


# ── statements over one payload ──


def test_a_statement_that_was_replaced_brings_no_payload(
    world: World, declared: Declaration, tmp_path: Path
) -> None:
    # given an offer that another statement over the same payload has replaced meanwhile
    first = sealed(world, declared)
    upload = _begin(world, first)
    world.service.offer(CN, sealed(world, _later(world, declared, 100)))
    upload.write_chunk(0, memoryview((tmp_path / "payload").read_bytes()))
    # when the payload of the first is complete, then it does not count under that one
    with refused(world, "not-offered", at="intake", may_change=("files",)):
        upload.finish()


def test_who_lost_its_receipt_and_signed_anew_gets_another(
    world: World, declared: Declaration, tmp_path: Path
) -> None:
    # given a payload that arrived, and a sender that decided anew a while later
    _send(world, sealed(world, declared), tmp_path / "payload")
    again = sealed(world, _later(world, declared, 60))
    # when it offers that
    reply = world.service.offer(CN, again)
    # then the receipt is for it, and it is the one that will be merged
    assert _statement_of(world, reply.receipt) == statement_digest(again)
    (submission,) = world.hub.inbox.submissions(WORLD, 1)
    assert submission.statement == statement_digest(again)


@pytest.mark.parametrize(
    ("seconds", "changes"), [(59, {}), (60, {"examples": 70})], ids=["too soon", "another count"]
)
def test_what_arrived_stands_against_what_is_no_renewal(
    world: World,
    declared: Declaration,
    tmp_path: Path,
    seconds: float,
    changes: dict[str, int],
) -> None:
    # given a payload that arrived, and a statement that comes at once or says something else
    first = sealed(world, declared)
    receipt = _send(world, first, tmp_path / "payload")
    other = sealed(world, replace(_later(world, declared, seconds), **changes))
    # when it is offered
    reply = world.service.offer(CN, other)
    # then the first receipt comes back, and the first statement stands
    assert reply.receipt is not None
    assert reply.receipt.encode() == receipt
    (submission,) = world.hub.inbox.submissions(WORLD, 1)
    assert submission.statement == statement_digest(first)


def test_a_statement_is_renewed_until_the_round_is_merged(
    world: World, declared: Declaration, tmp_path: Path
) -> None:
    # given a round that is being merged
    first = sealed(world, declared)
    _send(world, first, tmp_path / "payload")
    for name in ("de", "us"):
        world.place(name).turn(WORLD)
    assert advance(world.hub, WORLD)
    # when a renewed statement comes
    reply = world.service.offer(CN, sealed(world, _later(world, declared, 200)))
    # then what is being merged stands
    assert _statement_of(world, reply.receipt) == statement_digest(first)


def test_a_measurement_may_be_renewed_and_not_changed(evaluating: World) -> None:
    # given a measurement that was received
    told = measurement(evaluating, "cn", accuracy=50.0)
    evaluating.service.offer(CN, sealed(evaluating, told))
    again = _later(evaluating, told, 60)
    with refused(evaluating, "equivocation", at="intake"):
        evaluating.service.offer(CN, sealed(evaluating, again, metrics={"accuracy": 99.0}))
    # when it is decided anew and says the same
    reply = evaluating.service.offer(CN, sealed(evaluating, again))
    # then it is received in the place of the first
    assert _statement_of(evaluating, reply.receipt) == statement_digest(sealed(evaluating, again))
    assert list(evaluating.hub.inbox.evaluations(WORLD, 1)) == ["cn"]


# ── after a start ──


@pytest.mark.parametrize("lost", ["gone", "damaged"])
def test_a_payload_that_a_power_cut_took_is_asked_for_again(world: World, lost: str) -> None:
    # given a receipt for bytes that the machine then lost
    cn = world.place("cn")
    cn.turn(WORLD)
    (submission,) = world.hub.inbox.submissions(WORLD, 1)
    path = world.hub.spool_of("cn").payload(submission.payload)
    right = path.read_bytes()
    if lost == "gone":
        path.unlink()
    world.restart_hub()
    if lost == "damaged":
        path.write_bytes(right[:-1] + b"!")
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    # when the hub looks after its start
    recheck_spool(world.hub, round_)
    # then the region sends the same bytes again, without training again
    assert not cn.view().submitted
    cn.turn(WORLD)
    assert cn.view().submitted
    assert path.read_bytes() == right
    assert sum(isinstance(order, Train) for order in cn.script.orders) == 1


def test_what_is_whole_is_not_asked_for_again(world: World) -> None:
    # given payloads as they were received
    world.place("cn").turn(WORLD)
    before = world.remembered()
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    # when the hub looks after a start
    recheck_spool(world.hub, round_)
    # then nothing changes
    assert world.remembered() == before


# ── answers ──


def test_says_when_a_payload_is_no_longer_kept(world: World) -> None:
    # given a model whose file somebody removed
    cn = world.place("cn")
    cn.line.snapshot(WORLD)
    model = world.agreement.lineage(WORLD).start.model
    world.hub.spool.model(model).unlink()
    # when it is fetched, then the hub says so
    with refused(world, "gone", at="serve"):
        world.service.open_payload(CN, Digest(model))


def test_proves_releases_only(evaluating: World) -> None:
    # given a candidate
    candidate = evaluating.place("cn").view().candidate
    # when the proof of its release is asked for, then there is none
    with refused(evaluating, "no-release", at="serve"):
        evaluating.service.disclosure(CN, Digest(candidate or ""))


def test_shows_the_agreement_and_who_has_signed_it(world: World) -> None:
    # given every region's signature
    # when a region asks
    shown = world.service.agreement_view(CN)
    # then it sees the digest, and all of them
    assert shown.agreement == world.agreement.digest
    assert sorted(shown.signatures) == ["cn", "de", "hub", "us"]


# ── without metrics ──


def _without_metrics(terms: Terms) -> Terms:
    lineages = tuple(replace(line, gate=None) for line in terms.lineages)
    return replace(terms, metrics=(), lineages=lineages)


def test_an_update_over_no_example_is_incomplete_where_no_cohort_was_agreed(
    founded: Founded, tmp_path: Path
) -> None:
    # given an agreement without a number in it, and so without a least cohort
    template = founded.agree(tmp_path / "plain", _without_metrics)
    with opened(template, tmp_path / "run") as world:
        declared = update(world, "cn", write_payload(world, tmp_path / "payload"))
        envelope = sealed(world, replace(declared, examples=0))
        # when an update over nothing is offered, then it is refused all the same
        with refused(world, "incomplete", at="intake"):
            world.service.offer(CN, envelope)
