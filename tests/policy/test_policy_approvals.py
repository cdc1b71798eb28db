"""Approvals: canonical bytes, closed fields, nothing implied."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.demo_world import CHINA, CN, EU, HUB, ISSUED, approval, demo_approvals

from ringfence.core.errors import FormatError
from ringfence.core.ids import LineageId
from ringfence.policy.approvals import (
    APPROVAL_LIMIT_BYTES,
    Approval,
    ApprovalId,
    OperatorId,
    approval_from_bytes,
)
from ringfence.policy.words import ApprovalType, DataClass, ItemKind, Purpose

ASSESSMENT = approval(ApprovalType.CAC_ASSESSMENT, CHINA, EU, (HUB,), {ItemKind.UPDATE})
YEAR_S = 366 * 86_400

approvals = st.builds(
    replace,
    st.sampled_from(demo_approvals()),
    id=st.text(min_size=1, max_size=200).map(ApprovalId),
    counterparties=st.frozensets(st.text().map(OperatorId), min_size=1, max_size=5),
    kinds=st.frozensets(st.sampled_from(ItemKind), min_size=1),
    lineage=st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True).map(LineageId),
    purpose=st.sampled_from(Purpose),
    issued=st.integers(min_value=int(ISSUED), max_value=int(ISSUED) + 1000).map(float),
)


@given(approvals)
def test_an_approval_survives_its_bytes(given_approval: Approval) -> None:
    assert approval_from_bytes(given_approval.to_bytes()) == given_approval


def test_the_bytes_of_an_approval_are_frozen() -> None:
    assert ASSESSMENT.to_bytes() == (
        b'{"clears":[],"counterparties":["hub-operator"],"destination":"EU",'
        b'"document":"sha256:' + b"d0" * 32 + b'","expires":"2027-05-01T00:00:00Z",'
        b'"holder":"cn-operator","id":"cac.assessment/world/CN-EU",'
        b'"issued":"2026-11-01T00:00:00Z","issuer":"sample counsel","kinds":["update"],'
        b'"lineage":"world","lowers":[],"origin":"CN","purpose":"civil_driving",'
        b'"revocation_source":"approvals/revoked.json","scope":"sha256:' + b"a1" * 32 + b'",'
        b'"type":"cac.assessment"}'
    )


@pytest.mark.parametrize("field", sorted(json.loads(ASSESSMENT.to_bytes())))
def test_a_missing_field_is_an_error_and_no_wildcard(field: str) -> None:
    # given
    fields = json.loads(ASSESSMENT.to_bytes())
    del fields[field]
    # then
    with pytest.raises(FormatError, match=field):
        approval_from_bytes(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "cac.asessment"),
        ("kinds", ["weights"]),
        ("kinds", []),
        ("kinds", ["update", "update"]),
        ("kinds", ["update", "release"]),
        ("counterparties", []),
        ("counterparties", "*"),
        ("origin", "cn"),
        ("destination", "*"),
        ("lineage", "*"),
        ("purpose", "any"),
        ("scope", "*"),
        ("lowers", ["important"]),
        ("issued", "2026-11-01"),
        ("issued", "2027-05-01T00:00:00Z"),
        ("expires", "2029-11-02T00:00:00Z"),
        ("holder", ""),
        ("issuer", "x" * 201),
        ("wildcard", True),
    ],
)
def test_a_field_with_another_value_is_an_error(field: str, value: object) -> None:
    # given
    fields = json.loads(ASSESSMENT.to_bytes())
    fields[field] = value
    # then
    with pytest.raises(FormatError):
        approval_from_bytes(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


def test_bytes_that_are_not_canonical_are_refused() -> None:
    # given the same fields with spaces, and in another order
    fields = json.loads(ASSESSMENT.to_bytes())
    backwards = dict(reversed(fields.items()))
    for data in (json.dumps(fields), json.dumps(backwards, separators=(",", ":"))):
        # then
        with pytest.raises(FormatError, match="canonical"):
            approval_from_bytes(data.encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", ASSESSMENT.to_bytes()[:-1], b" " * (APPROVAL_LIMIT_BYTES + 1)]
)
def test_bytes_that_are_no_approval_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        approval_from_bytes(data)


@pytest.mark.parametrize(
    ("type_", "holder", "lowers"),
    [
        (ApprovalType.CN_DERIVED_DETERMINATION, CHINA, {DataClass.RAW}),
        (ApprovalType.CN_DERIVED_DETERMINATION, CHINA, {DataClass.PER_SAMPLE}),
        (ApprovalType.EDPB_ANONYMITY, HUB, {DataClass.IMPORTANT}),
        (ApprovalType.CAC_ASSESSMENT, CHINA, {DataClass.PERSONAL}),
    ],
)
def test_a_record_lowers_only_what_its_law_lets_it(
    type_: ApprovalType, holder: object, lowers: set[DataClass]
) -> None:
    # given
    party = CHINA if holder is CHINA else HUB
    paper = approval(type_, party, CN if party is HUB else EU, (HUB,), {ItemKind.UPDATE})
    # then
    with pytest.raises(FormatError, match="lowers within"):
        replace(paper, lowers=frozenset(lowers))


@pytest.mark.parametrize(
    ("type_", "holder"),
    [(ApprovalType.CN_DERIVED_DETERMINATION, HUB), (ApprovalType.EDPB_ANONYMITY, CHINA)],
)
def test_a_record_of_one_law_says_nothing_about_anothers_data(
    type_: ApprovalType, holder: object
) -> None:
    with pytest.raises(FormatError, match="expected origin"):
        approval(type_, CHINA if holder is CHINA else HUB, CN, (HUB,), {ItemKind.UPDATE})


def test_a_determination_lives_at_most_a_year() -> None:
    # given
    paper = approval(ApprovalType.CN_DERIVED_DETERMINATION, CHINA, EU, (HUB,), {ItemKind.UPDATE})
    # then
    replace(paper, expires=paper.issued + YEAR_S)
    with pytest.raises(FormatError, match="366 days"):
        replace(paper, expires=paper.issued + YEAR_S + 1)
