"""What a region may not have, and what it may not tell the hub: receipts and signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.border.border_world import BorderOf
from tests.places.founding import digest_of
from tests.places.world import US_MARKET, WORLD, World, refused

from ringfence.coordinator.outbox import Outgoing
from ringfence.coordinator.release import deliver_snapshot
from ringfence.core.artifacts import ReceiptNote, receipt_to_bytes
from ringfence.core.clock import to_rfc3339
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.crossing.signatures import sign_agreement
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.ledger.checkpoints import Checkpoint
from ringfence.ledger.notes import Note, NoteKey, sign, witness_key
from ringfence.net.border_client import BorderClient
from ringfence.trust.dsse import seal
from ringfence.trust.keys import create_ed25519


def _statement_to(world: World, region: str, lineage: LineageId = WORLD) -> Outgoing:
    """A statement of the hub that is addressed to `region`."""
    return deliver_snapshot(world.hub, RegionId(region), lineage)


# ── asking for what is another's ──


@pytest.mark.parametrize(
    "ask",
    [
        lambda line, theirs: line.statement(Digest(theirs.digest)),
        lambda line, theirs: line.disclosure(Digest(theirs.digest)),
        lambda line, theirs: line.download(
            Digest(theirs.payload), chunk=0, size_bytes=100, sink=lambda index, chunk: None
        ),
    ],
    ids=["its statement", "its proof", "its payload"],
)
def test_refuses_what_is_addressed_to_another(
    border: BorderOf, ask: Callable[[BorderClient, Outgoing], object]
) -> None:
    # given a model for the American market, addressed to Germany
    theirs = _statement_to(border.world, "de", US_MARKET)
    border.world.hub.outbox.addressed_of(
        recipient="cn", kind="snapshot", lineage=US_MARKET, round_=0
    )
    # when China asks for it, then it is refused as if it did not exist
    with border.line() as line, refused(border.world, "not-addressed-to-you", at="serve"):
        ask(line, theirs)


@pytest.mark.parametrize(
    "ask",
    [
        lambda line: line.statement(Digest(digest_of("nothing"))),
        lambda line: line.disclosure(Digest(digest_of("nothing"))),
        lambda line: line.download(
            Digest(digest_of("nothing")), chunk=0, size_bytes=1, sink=lambda index, chunk: None
        ),
    ],
    ids=["statement", "proof", "payload"],
)
def test_what_does_not_exist_looks_like_what_is_anothers(
    border: BorderOf, ask: Callable[[BorderClient], object]
) -> None:
    # given a digest that the hub has never seen
    # when China asks for it, then the answer is that of another region's
    with border.line() as line, refused(border.world, "not-addressed-to-you", at="serve"):
        ask(line)


@pytest.mark.parametrize(
    ("ask", "stage"),
    [
        (lambda line: line.lineage(US_MARKET, seen=0, wait_s=0), "serve"),
        (lambda line: line.snapshot(US_MARKET), "snapshot"),
        (lambda line: line.lineage(LineageId("moon-market"), seen=0, wait_s=0), "serve"),
        (lambda line: line.snapshot(LineageId("moon-market")), "snapshot"),
    ],
    ids=["its view", "its model", "the view of none", "the model of none"],
)
def test_refuses_a_lineage_to_who_does_not_receive_it(
    border: BorderOf, ask: Callable[[BorderClient], object], stage: str
) -> None:
    # given a lineage that bars China, and one that does not exist
    # when China asks for either, then it gets one answer
    with border.line() as line, refused(border.world, "not-a-recipient", at=stage):
        ask(line)


# ── receipts ──


def _receipt(world: World, signer: str, **changes: object) -> bytes:
    fields = {
        "statement": digest_of("statement"),
        "payload": "",
        "sender": "hub",
        "recipient": "cn",
        "received": to_rfc3339(world.clock()),
        "log_index": 0,
    }
    note = ReceiptNote(**(fields | changes))  # type: ignore[arg-type]
    return seal(
        receipt_to_bytes(note),
        payload_type=STATEMENT_PAYLOAD_TYPE,
        signer=world.signer(signer),
    )


def test_refuses_a_receipt_for_a_statement_that_was_never_sent(shared: BorderOf) -> None:
    # given a receipt that China signed for nothing
    receipt = _receipt(shared.world, "cn")
    # when it is handed over, then it is refused (and the log still verifies: see `listening`)
    with (
        shared.line() as line,
        refused(shared.world, "not-addressed-to-you", at="serve"),
    ):
        line.accept(receipt)


def test_refuses_a_receipt_for_the_statement_of_another(shared: BorderOf) -> None:
    # given a statement to Germany, for which China signs
    theirs = _statement_to(shared.world, "de")
    receipt = _receipt(shared.world, "cn", statement=theirs.digest, payload=theirs.payload)
    # when it is handed over, then it is refused
    with (
        shared.line() as line,
        refused(shared.world, "not-addressed-to-you", at="serve"),
    ):
        line.accept(receipt)


def test_refuses_a_receipt_for_another_payload(shared: BorderOf) -> None:
    # given a statement to China, and a receipt for other bytes than it announced
    ours = _statement_to(shared.world, "cn")
    receipt = _receipt(shared.world, "cn", statement=ours.digest, payload=digest_of("other"))
    # when it is handed over, then it is refused
    with shared.line() as line, refused(shared.world, "wrong-payload", at="receipt"):
        line.accept(receipt)


@pytest.mark.parametrize(
    "changes",
    [{"sender": "de"}, {"recipient": "de"}, {"sender": "cn", "recipient": "hub"}],
    ids=["another sender", "another recipient", "the wrong way round"],
)
def test_refuses_a_receipt_for_somebody_else(shared: BorderOf, changes: dict[str, str]) -> None:
    # given a receipt in China's hand that names others
    ours = _statement_to(shared.world, "cn")
    receipt = _receipt(shared.world, "cn", statement=ours.digest, payload=ours.payload, **changes)
    # when it is handed over, then it is refused
    with (
        shared.line() as line,
        refused(shared.world, "wrong-recipient", at="receipt"),
    ):
        line.accept(receipt)


def test_refuses_a_receipt_in_another_hand(shared: BorderOf) -> None:
    # given a receipt in China's name that Germany signed
    ours = _statement_to(shared.world, "cn")
    receipt = _receipt(shared.world, "de", statement=ours.digest, payload=ours.payload)
    # when China hands it over, then it is refused
    with shared.line() as line, refused(shared.world, "malformed", at="intake"):
        line.accept(receipt)


def test_a_receipt_is_recorded_once(border: BorderOf) -> None:
    # given a receipt that the hub has
    world = border.world
    ours = _statement_to(world, "cn")
    receipt = _receipt(world, "cn", statement=ours.digest, payload=ours.payload)
    with border.line() as line:
        line.accept(receipt)
        before, recorded = world.remembered(), len(world.entries())
        # when it is handed over again
        line.accept(receipt)
    # then nothing is recorded and nothing changes
    assert len(world.entries()) == recorded
    assert world.remembered() == before


# ── the log ──


def _cosignature(world: World, key: NoteKey, text: str, signer: object) -> str:
    return sign(text, key, signer, time_s=int(world.clock())).to_line()  # type: ignore[arg-type]


def test_refuses_a_cosignature_by_a_stranger(shared: BorderOf, tmp_path: Path) -> None:
    # given a cosignature of the shown checkpoint under a key that no agreement names
    world = shared.world
    stranger = create_ed25519(tmp_path / "key", b"x" * 32)
    text = Note.from_text(world.hub.publication.note()).text
    line = _cosignature(world, witness_key("cn.example/witness", stranger), text, stranger)
    # when it is handed over, then it is refused
    with shared.line() as border_line, refused(world, "malformed", at="serve"):
        border_line.cosign(line)


def test_refuses_a_cosignature_of_another_checkpoint(shared: BorderOf) -> None:
    # given China's cosignature of a tree that the hub never had
    world = shared.world
    signer = world.signer("cn", "witness")
    other = Checkpoint(origin="hub.example/log", size=99, root=bytes(32))
    key = witness_key("cn.example/witness", signer)
    line = _cosignature(world, key, other.to_text(), signer)
    # when it is handed over, then it is refused
    with shared.line() as border_line, refused(world, "malformed", at="serve"):
        border_line.cosign(line)


@pytest.mark.parametrize("line", ["", "— cn.example/witness AAAA\n", "x" * 1000])
def test_refuses_what_is_no_cosignature(shared: BorderOf, line: str) -> None:
    # given something else
    # when it is handed over as a cosignature, then it is refused
    with shared.line() as border_line, refused(shared.world, "malformed", at="serve"):
        border_line.cosign(line)


@pytest.mark.parametrize(
    ("old", "new"), [(5, 3), (0, 10**6), (10**6, 10**6 + 1), (10**17, 10**18 - 1)]
)
def test_refuses_a_proof_about_a_tree_that_it_does_not_have(
    shared: BorderOf, old: int, new: int
) -> None:
    # given sizes in the wrong order, or beyond the log
    # when a proof is asked for, then it is refused
    with shared.line() as line, refused(shared.world, "malformed", at="serve"):
        line.consistency(old=old, new=new)


# ── the agreement ──


def test_refuses_the_signature_of_another_region(shared: BorderOf) -> None:
    # given Germany's signature of the agreement
    world = shared.world
    theirs = sign_agreement(world.agreement, RegionId("de"), world.signer("de"))
    # when China hands it over, then it is refused
    with shared.line() as line, refused(world, "malformed", at="serve"):
        line.sign_agreement(theirs)


def test_refuses_a_signature_in_the_name_of_another_region(shared: BorderOf) -> None:
    # given a signature by China's key in Germany's name
    world = shared.world
    forged = sign_agreement(world.agreement, RegionId("de"), world.signer("cn"))
    # when China hands it over, then it is refused
    with shared.line() as line, refused(world, "another-agreement", at="agreement"):
        line.sign_agreement(forged)
