"""Statements that the hub must refuse: tampered, replayed, forged, or not for this round.

Each attack is made over the real border by a region with a good certificate.  `refused` asserts the
error that it gets, the one refusal in the hub's log, and that nothing else has changed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.border.border_world import BorderOf, Certificates, listening
from tests.places.forging import digests_of, sealed, update, write_payload
from tests.places.founding import Founded, digest_of
from tests.places.world import US_MARKET, WORLD, World, opened, refused

from ringfence.coordinator.rounds import advance
from ringfence.core import canonical
from ringfence.core.artifacts import Declaration, declaration_to_bytes, payload_of, statement_digest
from ringfence.core.errors import FormatError
from ringfence.core.terms import Terms
from ringfence.core.wire import STATEMENT_LIMIT_BYTES
from ringfence.crossing.signatures import sign_agreement
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.trust.dsse import seal


def honest_update(world: World, tmp_path: Path) -> Declaration:
    """China's update of the open round, with nothing wrong about it."""
    return update(world, "cn", write_payload(world, tmp_path / "payload"))


@pytest.fixture
def honest(shared: BorderOf, tmp_path: Path) -> Declaration:
    """The same for attacks that change nothing."""
    return honest_update(shared.world, tmp_path)


def test_an_honest_statement_is_asked_for_its_payload(border: BorderOf, tmp_path: Path) -> None:
    # given nothing but truth
    honest = honest_update(border.world, tmp_path)
    # when it is offered
    with border.line() as line:
        reply = line.offer(sealed(border.world, honest))
    # then the hub wants its first chunk: what the attacks below lack is the attack alone
    assert reply.next_chunk == 0


# ── the envelope ──


def _flipped_payload(envelope: bytes) -> bytes:
    parsed = json.loads(envelope)
    payload = bytearray(base64.b64decode(parsed["payload"]))
    payload[len(payload) // 2] ^= 1
    return canonical.to_bytes(parsed | {"payload": base64.b64encode(payload).decode()})


def _flipped_signature(envelope: bytes) -> bytes:
    parsed = json.loads(envelope)
    signature = bytearray(base64.b64decode(parsed["signatures"][0]["sig"]))
    signature[0] ^= 1
    parsed["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return canonical.to_bytes(parsed)


def _signed_twice(envelope: bytes) -> bytes:
    parsed = json.loads(envelope)
    return canonical.to_bytes(parsed | {"signatures": parsed["signatures"] * 2})


def _unsigned(envelope: bytes) -> bytes:
    return canonical.to_bytes(json.loads(envelope) | {"signatures": []})


@pytest.mark.parametrize(
    "tamper",
    [
        _flipped_payload,
        _flipped_signature,
        _signed_twice,
        _unsigned,
        lambda envelope: envelope + b" ",
        lambda envelope: envelope[:-1],
        lambda envelope: envelope[: len(envelope) // 2],
        lambda envelope: b"",
        lambda envelope: b"null",
        lambda envelope: b"\xff\xfe" * 100,
    ],
    ids=[
        "one bit of the payload",
        "one bit of the signature",
        "two signatures",
        "no signature",
        "a space more",
        "a byte less",
        "half of it",
        "nothing",
        "null",
        "no text",
    ],
)
def test_refuses_a_tampered_statement(
    shared: BorderOf, honest: Declaration, tamper: Callable[[bytes], bytes]
) -> None:
    # given a rightly signed statement that a courier changes
    envelope = tamper(sealed(shared.world, honest))
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, "malformed", at="intake"):
        line.offer(envelope)


def _fields(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    statement = json.loads(data)
    change(statement)
    return canonical.to_bytes(statement)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["predicate"].update(note="per-sample gradients attached"),
        lambda s: s["predicate"]["payload"].update(url="https://cn.example/raw"),
        lambda s: s.update(note="x"),
        lambda s: s["predicate"].pop("inputs"),
        lambda s: s["predicate"].update(round="1"),
        lambda s: s["predicate"].update(round=-1),
        lambda s: s["predicate"].update(kind="gradients"),
        lambda s: s["predicate"].update(jurisdictions=["CN", "CN"]),
        lambda s: s["predicate"].update(sender="cn\n"),
        lambda s: s["predicate"].update(metrics={"accuracy": "NaN"}),
        lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
        lambda s: s["predicate"]["payload"].update(size_bytes=10**18),
        lambda s: s["predicate"]["payload"].update(chunks=[]),
        lambda s: s["predicate"]["payload"].update(digest="blake3:" + "0" * 64),
        lambda s: s.update(predicateType="https://ringfence.dev/receipt/v1"),
    ],
    ids=[
        "an unknown field in the declaration",
        "an unknown field in the payload",
        "an unknown field beside the predicate",
        "a missing field",
        "a number as text",
        "a negative round",
        "an unknown kind",
        "a tag twice",
        "a sender with a line break",
        "a metric as text",
        "another subject",
        "an absurd size",
        "no chunks",
        "a digest that is not of its chunks",
        "another predicate type",
    ],
)
def test_refuses_a_statement_that_is_not_one(
    shared: BorderOf, honest: Declaration, change: Callable[[dict[str, Any]], None]
) -> None:
    # given a statement of the wrong shape, signed by its real sender
    envelope = seal(
        _fields(declaration_to_bytes(honest), change),
        payload_type=STATEMENT_PAYLOAD_TYPE,
        signer=shared.world.signer("cn"),
    )
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, "malformed", at="intake"):
        line.offer(envelope)


def test_refuses_another_kind_of_signed_text(shared: BorderOf) -> None:
    # given what China's key did sign: the agreement
    world = shared.world
    envelope = sign_agreement(world.agreement, world.place("cn").region.id, world.signer("cn"))
    # when it is offered as a statement, then it is refused
    with shared.line() as line, refused(world, "malformed", at="intake"):
        line.offer(envelope)


def test_refuses_a_statement_of_another_region(shared: BorderOf, honest: Declaration) -> None:
    # given Germany's statement in China's hands
    world = shared.world
    theirs = sealed(world, honest, sender="de", signer=world.signer("de"))
    # when China offers it under its own certificate, then it is refused
    with shared.line("cn") as line, refused(world, "malformed", at="intake"):
        line.offer(theirs)


def test_refuses_a_statement_signed_with_the_key_of_another_region(
    shared: BorderOf, honest: Declaration
) -> None:
    # given a statement in China's name that Germany signed
    world = shared.world
    forged = sealed(world, honest, signer=world.signer("de"))
    # when Germany offers it, then it is refused under the name that TLS proved
    with (
        shared.line("de") as line,
        refused(world, "wrong-sender", at="intake", counterparty="de"),
    ):
        line.offer(forged)


def test_an_oversized_statement_is_not_even_read(shared: BorderOf) -> None:
    # given a body longer than any statement
    body = b" " * (STATEMENT_LIMIT_BYTES + 1)
    # when it is offered
    before = shared.world.remembered()
    with shared.line() as line, pytest.raises(FormatError, match="413"):
        line.offer(body)
    # then the hub says which limit, and records whose it was
    entry = shared.world.entries()[-1]
    assert (entry.kind, entry.counterparty) == ("refusal", "cn")
    assert entry.refusal is not None
    assert str(STATEMENT_LIMIT_BYTES) in entry.refusal.detail
    assert shared.world.remembered() == before


@pytest.mark.parametrize("junk", [b"\x01", b"\xff", b"A"], ids=["controls", "no text", "letters"])
def test_junk_as_long_as_a_statement_leaves_a_short_record(shared: BorderOf, junk: bytes) -> None:
    # given as many bytes as a statement may have, which take six times as many in JSON
    body = junk * STATEMENT_LIMIT_BYTES
    # when they are offered
    with shared.line() as line, refused(shared.world, "malformed", at="intake"):
        line.offer(body)
    # then the record names them by digest: whoever holds a certificate cannot fill the hub's disk
    entry = shared.world.entries()[-1]
    assert entry.subject == statement_digest(body)
    assert len(entry.to_bytes()) < 4096


# ── what the statement says ──


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-agreement", {"agreement": digest_of("another agreement")}),
        ("wrong-recipient", {"recipient": "de"}),
        ("wrong-sender", {"sender": "us"}),
        ("wrong-round", {"round": 2}),
        ("wrong-round", {"round": 0}),
        ("wrong-round", {"round": 10**30}),
        ("wrong-parent", {"parent": digest_of("another model")}),
        ("wrong-parent", {"parent": ""}),
        ("wrong-layout", {"layout": digest_of("another layout")}),
        ("wrong-codec", {"codec": "int8"}),
        ("wrong-codec", {"codec": "none", "payload": None}),
        ("wrong-lineage", {"lineage": "moon-market"}),
        ("kind", {"kind": "candidate"}),
        ("kind", {"kind": "release"}),
        ("kind", {"kind": "snapshot"}),
        ("kind", {"kind": "checkpoint"}),
        ("kind", {"kind": "logits"}),
        ("kind", {"kind": "architecture"}),
        ("kind", {"kind": "approval"}),
        ("kind", {"kind": "evidence"}),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_refuses_a_statement_about_something_else(
    shared: BorderOf, honest: Declaration, reason: str, changes: dict[str, Any]
) -> None:
    # given a signed statement that is right but for one field
    envelope = sealed(shared.world, honest, signer=shared.world.signer("cn"), **changes)
    # when it is offered, then the hub says which
    with shared.line() as line, refused(shared.world, reason, at="intake"):
        line.offer(envelope)


@pytest.mark.parametrize("size_bytes", [1, 100, 10_000_000])
def test_refuses_a_payload_of_another_size_before_it_is_sent(
    shared: BorderOf, honest: Declaration, size_bytes: int
) -> None:
    # given a statement that announces fewer or more bytes than the agreed layout has
    payload = payload_of(digests_of(bytes(size_bytes)))
    envelope = sealed(shared.world, honest, payload=payload)
    # when it is offered, then it is refused, and no byte of it was taken
    with shared.line() as line, refused(shared.world, "wrong-size", at="intake"):
        line.offer(envelope)


@pytest.mark.parametrize("examples", [0, 49])
def test_refuses_an_update_of_fewer_examples_than_the_least_cohort(
    shared: BorderOf, honest: Declaration, examples: int
) -> None:
    # given an update over nothing, and one over less than the agreement's metrics need
    envelope = sealed(shared.world, honest, signer=shared.world.signer("cn"), examples=examples)
    # when it is offered, then the law refuses it by name
    with shared.line() as line, refused(shared.world, "law", at="law", rules=("PLAT-COHORT",)):
        line.offer(envelope)


def test_refuses_a_tag_that_its_lineage_bars(shared: BorderOf, tmp_path: Path) -> None:
    # given a German update to the American market that says that it has China in its closure
    world = shared.world
    payload = write_payload(world, tmp_path / "payload")
    tainted = update(world, "de", payload, lineage=US_MARKET, tags=("CN", "EU"))
    # when it is offered, then the law refuses it by name
    rule = ("US-ICTS-791.303",)
    with (
        shared.line("de") as line,
        refused(world, "law", at="law", counterparty="de", rules=rule),
    ):
        line.offer(sealed(world, tainted))


def test_refuses_china_in_the_lineage_for_american_roads(shared: BorderOf, tmp_path: Path) -> None:
    # given China's update, its own law switched off
    world = shared.world
    payload = write_payload(world, tmp_path / "payload")
    barred = update(world, "cn", payload, lineage=US_MARKET)
    # when it is offered to the lineage that bars it, then the law refuses it by name
    with shared.line() as line, refused(world, "law", at="law", rules=("US-ICTS-791.303",)):
        line.offer(sealed(world, barred))


@pytest.mark.parametrize("tags", [(), ("EU",), ("US",)], ids=["none", "another", "a third"])
def test_refuses_an_update_without_the_tag_of_its_sender(
    shared: BorderOf, honest: Declaration, tags: tuple[str, ...]
) -> None:
    # given an update that hides where it was trained
    envelope = sealed(shared.world, honest, jurisdictions=tags)
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, "tags-missing", at="intake"):
        line.offer(envelope)


def test_refuses_an_update_without_the_tags_of_its_base(border: BorderOf, tmp_path: Path) -> None:
    # given a release that China has trained on
    world = border.world
    world.run_to(WORLD, 2, "open")
    payload = write_payload(world, tmp_path / "payload")
    washed = update(world, "us", payload, tags=("US",))
    # when an American update on it says that it has seen America only, then it is refused
    with (
        border.line("us") as line,
        refused(world, "tags-missing", at="intake", counterparty="us"),
    ):
        line.offer(sealed(world, washed))


def test_refuses_who_is_no_contributor(
    founded: Founded, certificates: Certificates, tmp_path: Path
) -> None:
    # given a lineage that Germany receives and gives nothing to
    def receives_only(terms: Terms) -> Terms:
        first, *others = terms.lineages
        return replace(terms, lineages=(replace(first, contributors=("cn", "us")), *others))

    template = founded.agree(tmp_path / "template", receives_only)
    with (
        opened(template, tmp_path / "federation") as world,
        listening(world, certificates) as border,
    ):
        theirs = update(world, "de", write_payload(world, tmp_path / "payload"))
        # when Germany offers an update, then it is refused
        with (
            border.line("de") as line,
            refused(world, "not-a-contributor", at="intake", counterparty="de"),
        ):
            line.offer(sealed(world, theirs))


def test_tells_an_outsider_nothing_about_a_lineage(shared: BorderOf, tmp_path: Path) -> None:
    # given China's guess at the round and the parent of a lineage that it gets nothing of
    world = shared.world
    payload = write_payload(world, tmp_path / "payload")
    guess = update(world, "cn", payload, lineage=US_MARKET)
    envelope = sealed(world, guess, round=77, parent=digest_of("guess"))
    # when it offers an update, then it is told of the law, and not how far off it was
    with shared.line() as line, refused(world, "law", at="law") as caught:
        line.offer(envelope)
    assert "round" not in caught.value.detail
    assert guess.parent not in caught.value.detail


# ── the same again ──


def test_a_replayed_statement_gets_the_original_receipt(border: BorderOf, tmp_path: Path) -> None:
    # given an update that arrived whole
    honest = honest_update(border.world, tmp_path)
    world = border.world
    envelope = sealed(world, honest)
    with border.line() as line:
        line.offer(envelope)
        receipt = line.upload(statement_digest(envelope), tmp_path / "payload", chunk=0)
        before, recorded = world.remembered(), len(world.entries())
        # when its statement is sent again
        reply = line.offer(envelope)
    # then the first receipt comes back, and nothing is recorded or changed
    assert reply.receipt is not None
    assert reply.receipt.encode() == receipt
    assert world.remembered() == before
    assert len(world.entries()) == recorded


def test_a_replay_into_another_round_is_refused(border: BorderOf) -> None:
    # given a statement that counted in round 1
    world = border.world
    world.run_to(WORLD, 2, "open")
    old = next(e for e in world.entries() if (e.kind, e.counterparty) == ("arrival", "cn"))
    # when it comes again in round 2, then it is refused
    with border.line() as line, refused(world, "wrong-round", at="intake"):
        line.offer(old.envelope.encode())


def test_another_payload_for_the_same_round_is_equivocation(
    border: BorderOf, tmp_path: Path
) -> None:
    # given one update offered
    honest = honest_update(border.world, tmp_path)
    world = border.world
    other = replace(honest, payload=write_payload(world, tmp_path / "other", 0.5))
    with border.line() as line:
        line.offer(sealed(world, honest))
        # when another one is offered for the same round, then it is refused
        with refused(world, "equivocation", at="intake"):
            line.offer(sealed(world, other))


def test_another_payload_after_the_receipt_is_equivocation(
    border: BorderOf, tmp_path: Path
) -> None:
    # given one update that has arrived
    honest = honest_update(border.world, tmp_path)
    world = border.world
    envelope = sealed(world, honest)
    other = replace(honest, payload=write_payload(world, tmp_path / "other", 0.5))
    with border.line() as line:
        line.offer(envelope)
        line.upload(statement_digest(envelope), tmp_path / "payload", chunk=0)
        # when another one is offered for the same round, then it is refused
        with refused(world, "equivocation", at="intake"):
            line.offer(sealed(world, other))


def test_a_new_verdict_over_the_same_payload_is_no_equivocation(
    border: BorderOf, tmp_path: Path
) -> None:
    # given an update offered under a verdict that then ran out
    honest = honest_update(border.world, tmp_path)
    world = border.world
    later = replace(honest.verdict, valid_until="2030-01-01T00:00:00Z")
    again = sealed(world, honest, verdict=later)
    with border.line() as line:
        line.offer(sealed(world, honest))
        # when the same bytes come under a new one
        line.offer(again)
        receipt = line.upload(statement_digest(again), tmp_path / "payload", chunk=0)
    # then they count
    assert receipt
    assert world.place("cn").view().submitted


def test_a_late_update_is_refused(border: BorderOf, tmp_path: Path) -> None:
    # given a round that closed without China
    world = border.world
    late = update(world, "cn", write_payload(world, tmp_path / "payload"))
    for name in ("de", "us"):
        world.place(name).turn(WORLD)
    world.clock.now_s += 601
    assert advance(world.hub, WORLD)
    # when China's update comes, then it is told that it is late
    with border.line() as line, refused(world, "late", at="intake"):
        line.offer(sealed(world, late))
