"""What the hub's log says: the same to every region, of releases, refusals and receipts alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.places.forging import sealed, update, write_payload
from tests.places.founding import digest_of
from tests.places.world import WORLD, World, refused

from ringfence.coordinator.engine import _prepare
from ringfence.coordinator.journal import Round
from ringfence.coordinator.outbox import Outgoing
from ringfence.coordinator.rounds import advance
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import (
    ReceiptNote,
    VerdictNote,
    receipt_to_bytes,
    statement_digest,
)
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, RegionId
from ringfence.crossing.entries import ENTRY_LIMIT_BYTES, Entry
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE, open_own
from ringfence.ledger.disclosure import Proven, check_proof
from ringfence.trust.dsse import seal

CN = RegionId("cn")


def _proof(world: World, region: str, statement: str) -> Proven:
    return check_proof(
        world.service.disclosure(RegionId(region), Digest(statement)),
        log_key=world.hub.region.log.key,
        witnesses=world.witness_keys(),
    )


def _release_to(world: World, region: str) -> str:
    release = world.service.view(RegionId(region), WORLD).release
    assert release is not None
    return release


# ── one release record ──


def test_every_region_is_shown_the_same_record_of_a_release(world: World) -> None:
    # given a released round
    world.run_to(WORLD, 1, "released")
    first = world.hub.journal.round(WORLD, 1)
    assert first is not None
    assert first.candidate is not None
    # when each region asks for the proof behind its own release statement
    proofs = {name: _proof(world, name, _release_to(world, name)) for name in ("cn", "de", "us")}
    # then all get one entry, which names model, parent, payload, updates and measurements
    assert len({(proven.index, proven.content) for proven in proofs.values()}) == 1
    entry = Entry.from_bytes(proofs["cn"].content)
    statements = [s.statement for s in world.hub.inbox.submissions(WORLD, 1)]
    assert (entry.kind, entry.lineage, entry.round) == ("release", "world", 1)
    assert entry.subject == first.candidate.model
    assert entry.inputs == (first.parent, first.candidate.payload.digest, *statements)
    assert entry.measurements == ("cn=50.0", "de=50.0", "us=50.0")
    # and it stands before the first statement that tells of it
    told = [open_own(world.hub.region, e.envelope.encode()).kind for e in _intents(world)]
    indices = [i for i, e in enumerate(world.entries()) if e.kind == "intent"]
    assert proofs["cn"].index < min(
        i for i, kind in zip(indices, told, strict=True) if kind == "release"
    )


def _intents(world: World) -> list[Entry]:
    return [entry for entry in world.entries() if entry.kind == "intent"]


def test_a_step_that_is_repeated_finds_the_record_it_wrote(world: World) -> None:
    # given a hub that died between the record and the journal
    world.run_to(WORLD, 1, "evaluating")
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    assert round_.candidate is not None
    from ringfence.coordinator.release import record_release

    record_release(world.hub, round_, round_.candidate)
    world.restart_hub()
    # when it takes the step again
    advance(world.hub, WORLD)
    # then there is one record
    assert [entry.kind for entry in world.entries()].count("release") == 1


def test_cosignatures_outlive_the_run(world: World) -> None:
    # given a release that every region has cosigned and admitted
    world.run_to(WORLD, 1, "released")
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    shown = world.hub.publication.note()
    # when the hub starts again, with entries that nobody has cosigned
    world.hub.refusals.record(
        world.hub.region, Refused(stage="x", reason="y", detail="z"), counterparty="cn"
    )
    world.restart_hub()
    _prepare(world.hub)
    # then it shows the same checkpoint, and proves the release under it
    assert world.hub.publication.note() == shown
    assert len(_proof(world, "cn", _release_to(world, "cn")).cosigned_by) == 3


def test_a_snapshot_of_the_start_has_no_release_record(world: World) -> None:
    # given the statement of the model that the agreement starts from
    envelope = world.service.snapshot(CN, WORLD)
    # when its proof is asked for, then there is none
    with refused(world, "no-release", at="serve"):
        world.service.disclosure(CN, statement_digest(envelope))


# ── refusals and receipts ──


def test_refused_bytes_do_not_grow_in_the_log(world: World) -> None:
    # given four MiB of what takes six times as many in JSON
    # when they are offered
    with pytest.raises(Refused):
        world.service.offer(CN, b"\0" * (4 << 20))
    # then the record names them by digest
    entry = world.entries()[-1]
    assert entry.subject == statement_digest(b"\0" * (4 << 20))
    assert len(entry.to_bytes()) < 1000 < ENTRY_LIMIT_BYTES


def test_the_same_refusal_is_written_once_and_a_flood_is_counted(world: World) -> None:
    # given a region that sends the same junk twice, and then much other junk
    for junk in (b"{", b"{", *(b"%d" % i for i in range(300))):
        with pytest.raises(Refused):
            world.service.offer(CN, junk)
    # when the hour is over
    world.clock.now_s += 3601
    world.hub.refusals.close_windows(world.hub.region)
    # then its share was written, and a count of the rest
    reasons = [e.refusal.reason for e in world.entries() if e.refusal]
    assert (len(reasons), reasons[-1]) == (201, "too-many-refusals")


def test_a_receipt_for_nothing_is_not_recorded(world: World) -> None:
    # given a receipt for a statement that never was
    note = ReceiptNote(
        statement=digest_of("nothing"),
        payload="",
        sender="hub",
        recipient="cn",
        received=to_rfc3339(world.clock()),
        log_index=0,
    )
    receipt = seal(
        receipt_to_bytes(note), payload_type=STATEMENT_PAYLOAD_TYPE, signer=world.signer("cn")
    )
    # when it is handed over, then it is refused and no receipt stands in the log
    with refused(world, "not-addressed-to-you", at="serve"):
        world.service.accept_receipt(CN, receipt)
    assert all(entry.kind != "receipt" for entry in world.entries())


# ── declared facts ──


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-data-classes", {"data_classes": ("personal",)}),
        ("wrong-hardware", {"hardware": "prc_3a090"}),
        ("wrong-purpose", {"purpose": "military"}),
        ("wrong-model", {"model": digest_of("model")}),
        (
            "verdict-expired",
            {
                "verdict": VerdictNote(
                    question=digest_of("question"),
                    packs=(),
                    approvals=(),
                    valid_until="2001-01-01T00:00:00Z",
                )
            },
        ),
        ("clock", {"issued": "1999-01-01T00:00:00Z"}),
        ("clock", {"issued": "2999-01-01T00:00:00Z"}),
    ],
)
def test_refuses_a_declaration_that_does_not_follow_from_the_agreement(
    world: World, tmp_path: Path, reason: str, changes: dict[str, Any]
) -> None:
    # given an update that is right but for one field
    declared = update(world, "cn", write_payload(world, tmp_path / "payload"))
    # when it is offered, then it is refused
    with refused(world, reason, at="intake"):
        world.service.offer(CN, sealed(world, declared, **changes))


# ── the law is asked again ──


def test_a_candidate_is_not_served_after_its_approvals_are_revoked(world: World) -> None:
    # given a candidate that was addressed to China
    candidate = _candidate_to_cn(world)
    payload = open_own(world.hub.region, candidate.envelope).payload
    assert payload is not None
    # when every approval is gone
    for paper in world.homes["hub"].approvals.glob("*.json"):
        paper.unlink()
    # then neither statement nor payload leaves, and the view shows nothing to ask for
    for ask in (world.service.statement, world.service.open_payload):
        digest = candidate.digest if ask == world.service.statement else payload.digest
        with pytest.raises(Refused, match="refused at law"):
            ask(CN, Digest(digest))
    assert world.service.view(CN, WORLD).candidate is None


def test_a_statement_whose_verdict_ran_out_is_replaced(world: World) -> None:
    # given a candidate that nobody fetched for an hour
    candidate = _candidate_to_cn(world)
    world.clock.now_s += 3601
    # when it is asked for, then it does not leave; another takes its place
    with pytest.raises(Refused, match="verdict-expired"):
        world.service.statement(CN, Digest(candidate.digest))
    renewed = world.service.view(CN, WORLD).candidate
    assert renewed not in (None, candidate.digest)
    assert world.service.statement(CN, Digest(renewed or ""))


def _candidate_to_cn(world: World) -> Outgoing:
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    for _ in range(2):
        advance(world.hub, WORLD)
    found = world.hub.outbox.addressed_of(recipient="cn", kind="candidate", lineage=WORLD, round_=1)
    assert found is not None
    return found


def test_a_revoked_update_is_not_merged(world: World) -> None:
    # given updates of everybody, and approvals that are revoked before the merge
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
    for paper in world.homes["hub"].approvals.glob("*cn*.json"):
        paper.unlink()
    # when intake closes
    advance(world.hub, WORLD)
    # then China's is left out, and the refusal is recorded
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    assert round_.contributors == ("de", "us")
    assert world.entries()[-1].counterparty == "cn"


# ── a successor agreement ──


def test_a_successor_holds_open_rounds_and_addresses_releases_anew(world: World) -> None:
    # given a released round, and the next one under way
    world.run_to(WORLD, 1, "released")
    before = _release_to(world, "cn")
    advance(world.hub, WORLD)
    world.place("de").turn(WORLD)
    # when a successor comes into force
    _succeed(world)
    _prepare(world.hub)
    # then the round is held for that reason, and the release has a statement under the new terms
    held = _current(world)
    assert held.state == "held"
    assert "agreement-changed" in held.reason
    after = _release_to(world, "cn")
    assert after != before
    declared = open_own(world.hub.region, world.service.statement(CN, Digest(after)))
    assert declared.agreement == world.agreement.digest
    assert _proof(world, "cn", after).content == _proof(world, "cn", before).content
    # and the next round opens
    advance(world.hub, WORLD)
    assert (_current(world).round, _current(world).state) == (3, "open")


def _current(world: World) -> Round:
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    return round_


def _succeed(world: World) -> None:
    terms = world.agreement.terms
    lineages = tuple(replace(line, until_round=9) for line in terms.lineages)
    world.agreement = Agreement(
        terms=replace(terms, predecessor=world.agreement.digest, lineages=lineages),
        digest=Digest(digest_of("successor")),
    )
    world.restart_hub()
