"""What is written down and signed: entries, receipts and signatures of the agreement."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.places.founding import Founded, Template, digest_of
from tests.places.world import World

from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.artifacts import ReceiptNote, receipt_from_bytes, receipt_to_bytes
from ringfence.core.errors import FormatError, Refused, TrustError
from ringfence.core.ids import RegionId
from ringfence.core.wire import Refusal
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import (
    check_signature,
    check_signatures,
    missing_signatures,
    sign_agreement,
)
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.trust.dsse import seal

TEXT = st.text(max_size=40)
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from(["intent", "arrival", "receipt", "refusal", "merge", "release"]),
    at=TEXT,
    counterparty=TEXT,
    lineage=TEXT,
    round=st.integers(0, 2**40),
    subject=TEXT,
    envelope=TEXT,
    inputs=st.tuples(TEXT, TEXT),
    measurements=st.tuples(TEXT),
    refusal=st.none() | st.builds(Refusal, stage=TEXT, reason=TEXT, detail=TEXT, rules=st.tuples()),
)
DIGESTS = st.integers(0, 99).map(lambda number: digest_of(str(number)))
NOTES = st.builds(
    ReceiptNote,
    statement=DIGESTS,
    payload=DIGESTS,
    sender=st.just("cn"),
    recipient=st.just("hub"),
    received=TEXT,
    log_index=st.integers(0, 2**40),
)


@given(ENTRIES)
def test_an_entry_reads_back_as_it_was_written(entry: Entry) -> None:
    assert Entry.from_bytes(entry.to_bytes()) == entry


@given(NOTES)
def test_a_receipt_reads_back_as_it_was_written(note: ReceiptNote) -> None:
    assert receipt_from_bytes(receipt_to_bytes(note)) == note


@pytest.mark.parametrize(
    "change",
    [{"kind": "payment"}, {"note": "unknown"}, {"round": "1"}, {"refusal": {"stage": "x"}}],
    ids=["another kind", "an unknown field", "a number as text", "half a refusal"],
)
def test_an_entry_that_is_none_is_not_read(change: dict[str, Any]) -> None:
    # given something else in the place of an entry
    entry = Entry(kind="intent", at="2026-11-20T09:00:00Z", counterparty="hub")
    data = json.dumps(json.loads(entry.to_bytes()) | change).encode()
    # when it is read, then it is refused
    with pytest.raises(FormatError):
        Entry.from_bytes(data)


# ── signatures of the agreement ──


@pytest.fixture(scope="module")
def agreement(template: Template) -> Agreement:
    return parse_agreement(template.federation.agreement_path.read_bytes())


def _signed(founded: Founded, agreement: Agreement, *names: str) -> dict[str, bytes]:
    return {
        name: sign_agreement(agreement, RegionId(name), founded.signers[name, "statement"])
        for name in names
    }


def test_a_run_starts_when_every_region_has_signed(founded: Founded, agreement: Agreement) -> None:
    # given three of four
    signatures = _signed(founded, agreement, "cn", "de", "hub")
    assert missing_signatures(agreement, signatures) == ["us"]
    with pytest.raises(TrustError, match="not signed by us"):
        check_signatures(agreement, signatures)
    # when the fourth has signed, then it starts
    check_signatures(agreement, signatures | _signed(founded, agreement, "us"))


def test_a_signature_of_one_byte_more_is_of_another_agreement(
    founded: Founded, template: Template, agreement: Agreement
) -> None:
    # given a file that differs in one byte
    data = template.federation.agreement_path.read_bytes() + b"\n"
    (envelope,) = _signed(founded, parse_agreement(data), "cn").values()
    # when its signature is shown for ours, then it is refused
    with pytest.raises(Refused) as caught:
        check_signature(agreement, RegionId("cn"), envelope)
    assert caught.value.reason == "another-agreement"


def test_a_signature_counts_for_its_signer_only(founded: Founded, agreement: Agreement) -> None:
    # given China's signature
    (envelope,) = _signed(founded, agreement, "cn").values()
    # when it is shown as Germany's, then it does not hold
    with pytest.raises(TrustError):
        check_signature(agreement, RegionId("de"), envelope)


def test_a_statement_is_no_signature_of_the_agreement(
    founded: Founded, world: World, agreement: Agreement
) -> None:
    # given the same words under the type of a statement
    words = json.dumps({"agreement": agreement.digest, "region": "cn"}).encode()
    envelope = seal(
        words, payload_type=STATEMENT_PAYLOAD_TYPE, signer=founded.signers["cn", "statement"]
    )
    # when it is shown as a signature, then it does not hold
    with pytest.raises(TrustError):
        check_signature(agreement, RegionId("cn"), envelope)


def test_an_agreement_fixes_the_flow_that_approvals_name(agreement: Agreement) -> None:
    # given what approvals are bound to
    # when the clip bound changes, then every approval must be asked for anew
    other = Agreement(
        terms=replace(agreement.terms, clip_l2=agreement.terms.clip_l2 + 1), digest=agreement.digest
    )
    assert other.scope != agreement.scope
