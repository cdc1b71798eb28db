"""Who signed a paper, and who has ended it: real keys, real files, a real log."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed
from tests.places.world import WORLD, Place, World

from ringfence.cli.agreement_text import render
from ringfence.coordinator.rounds import advance
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.errors import ConfigError, FormatError, LogError, Refused, TrustError
from ringfence.core.ids import RegionId
from ringfence.core.terms import Approver, Flags, Terms, TwoPerson
from ringfence.crossing.approvers import missing_roles, roles_needed
from ringfence.crossing.audit import Audit
from ringfence.crossing.entries import Entry
from ringfence.crossing.papers import (
    Paper,
    Papers,
    file_name,
    open_approval,
    open_paper,
    seal_approval,
    seal_revocation,
)
from ringfence.crossing.revoking import recorded
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.revocations import Revocation, revocation_from_bytes
from ringfence.policy.words import ApprovalType
from ringfence.trust.keys import Ed25519Signer

DAY_S = 86_400.0
CN = OperatorId("cn operator")


def drawn(seed: int) -> Ed25519Signer:
    return Ed25519Signer(key=ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


OFFICER, OTHER_OFFICER, DIRECTOR, STRANGER = (drawn(n) for n in (1, 2, 3, 4))


def approver(role: str, signer: Ed25519Signer, person: str = "") -> Approver:
    return Approver(role=role, key=base64.b64encode(signer.public_key).decode(), person=person)


TWO = TwoPerson(types=("cac.assessment", "mnr.outbound"), roles=("counsel", "privacy-officer"))


def agreed(agreement: Agreement, *approvers: Approver, **terms: object) -> Agreement:
    """The agreement with `approvers` in China, and what else differs; its scope is the same."""
    regions = tuple(
        changed(party, approvers=approvers) if party.id == "cn" else party
        for party in agreement.terms.regions
    )
    altered: Terms = changed(agreement.terms, regions=regions, **terms)
    return parse_agreement(render(altered).encode())


@pytest.fixture
def two_person(world: World) -> Agreement:
    """China's assessments need counsel and a privacy officer."""
    officer = approver("privacy-officer", OFFICER)
    return agreed(world.agreement, officer, two_person=(TWO,))


@pytest.fixture
def assessment(world: World) -> Approval:
    held = world.place("cn").region.law.approvals()
    return next(p for p in held if p.type is ApprovalType.CAC_ASSESSMENT and p.lineage == WORLD)


@pytest.fixture
def counsel(world: World) -> Ed25519Signer:
    return world.signer("cn", "counsel")


# ── two people ──


def test_an_agreement_with_approvers_is_what_it_is_written_as(two_person: Agreement) -> None:
    # given an agreement with approvers, a two-person rule and flags of its own
    terms = changed(two_person.terms, flags=Flags(hold=("deploy",), role="privacy-officer"))
    # when it is written and read
    read = parse_agreement(render(terms).encode())
    # then nothing is lost
    assert read.terms == terms


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"two_person": (TwoPerson(types=(), roles=("a", "b")),)}, "at least one type"),
        ({"two_person": (TwoPerson(types=("cac.cert",), roles=("a",)),)}, "two different roles"),
        ({"two_person": (TwoPerson(types=("cac.cert",), roles=("a", "a")),)}, "named twice"),
        ({"two_person": (TwoPerson(types=("cac.cert",), roles=("a", "B c")),)}, "expected a role"),
        ({"flags": Flags(role="")}, "expected a role"),
    ],
)
def test_a_two_person_rule_that_binds_nobody_is_no_agreement(
    world: World, terms: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        agreed(world.agreement, **terms)


def test_a_two_person_rule_for_an_unknown_type_stops_the_region(
    world: World, tmp_path: Path
) -> None:
    # given a rule whose type has a typo
    rule = TwoPerson(types=("cac.asessment",), roles=("counsel", "privacy-officer"))
    # when papers are opened under it, then a person must mend it
    with pytest.raises(ConfigError, match=r"cac\.asessment"):
        Papers(tmp_path, agreed(world.agreement, two_person=(rule,)))


def test_a_key_that_a_process_holds_approves_nothing(world: World) -> None:
    # given an approver whose key is the region's statement key
    key = world.agreement.region("cn").statement_key
    # when it is agreed on, then it is refused
    with pytest.raises(ConfigError, match="statement_key too"):
        agreed(world.agreement, Approver(role="privacy-officer", key=key))


def test_a_paper_holds_once_both_have_signed(
    two_person: Agreement, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given a paper that needs two people
    alone = seal_approval(assessment, counsel)
    # when one has signed, then it is asked for the other; when both have, in any order, it holds
    with pytest.raises(TrustError, match="privacy-officer"):
        open_approval(two_person, alone, what="paper")
    both = seal_approval(assessment, counsel, OFFICER)
    assert open_approval(two_person, both, what="paper") == assessment
    assert both == seal_approval(assessment, OFFICER, counsel)


def test_a_half_signed_paper_covers_nothing_and_stops_nobody(
    world: World, two_person: Agreement, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given China's papers under the two-person rule, all signed by counsel alone
    directory = world.homes["cn"].approvals
    papers = Papers(directory, two_person)
    types = {paper.type for paper in papers.read()}
    assert not types & {ApprovalType.CAC_ASSESSMENT, ApprovalType.MNR_OUTBOUND}
    # when the officer signs one as well
    path = directory / file_name(assessment.id)
    path.write_bytes(seal_approval(assessment, counsel, OFFICER))
    # then it counts, and the other still waits
    assert assessment in papers.read()
    waiting = [p for p in papers.all() if p.missing]
    assert waiting
    assert all(p.missing == ("privacy-officer",) for p in waiting)


@pytest.mark.parametrize(
    ("rows", "signers", "missing"),
    [
        # one key for two roles, and one person's two keys for two roles, are one person
        ([("counsel", 1), ("privacy-officer", 1)], [1], 1),
        ([("counsel", 1, "Li"), ("privacy-officer", 2, "Li")], [1, 2], 1),
        ([("counsel", 1, "Li"), ("privacy-officer", 2, "Wang")], [1, 2], 0),
        # whoever can be both leaves the role that another cannot fill
        ([("counsel", 1), ("privacy-officer", 1), ("counsel", 2)], [1, 2], 0),
        ([("counsel", 1), ("privacy-officer", 1), ("privacy-officer", 2)], [1, 2], 0),
        # two of one role are not two roles
        ([("counsel", 1), ("counsel", 2), ("privacy-officer", 3)], [1, 2], 1),
        ([("counsel", 1), ("privacy-officer", 2)], [], 2),
        # a key under two names joins both persons
        ([("counsel", 1, "Li"), ("x", 1, "Wang"), ("privacy-officer", 2, "Wang")], [1, 2], 1),
    ],
)
def test_every_role_is_filled_by_a_person_of_its_own(
    world: World, rows: list[tuple[object, ...]], signers: list[int], missing: int
) -> None:
    # given approvers, some of whom are the same person
    approvers = [approver(str(row[0]), drawn(int(str(row[1]))), *map(str, row[2:])) for row in rows]
    agreement = agreed(world.agreement, *approvers, two_person=(TWO,))
    keys = [drawn(n).public_key for n in signers]
    # when it is counted who has not signed
    left = missing_roles(agreement, ApprovalType.CAC_ASSESSMENT, CN, keys)
    # then it is so many
    assert len(left) == missing


def test_a_review_of_flags_is_signed_by_the_role_that_the_agreement_names(world: World) -> None:
    agreement = agreed(world.agreement, flags=Flags(role="privacy-officer"))
    assert roles_needed(agreement, ApprovalType.PLAT_FLAG_REVIEW) == ("privacy-officer",)
    assert roles_needed(agreement, ApprovalType.CAC_ASSESSMENT) == ("counsel",)


@pytest.mark.parametrize("signer", ["a stranger", "another operator's counsel"])
def test_one_foreign_signature_spoils_a_paper(
    world: World, two_person: Agreement, assessment: Approval, counsel: Ed25519Signer, signer: str
) -> None:
    # given a paper that all have signed who must, and somebody else
    other = STRANGER if signer == "a stranger" else world.signer("us", "counsel")
    envelope = seal_approval(assessment, counsel, OFFICER, other)
    # when it is opened, then nothing of it is believed
    with pytest.raises(TrustError):
        open_paper(two_person, envelope, what="paper")


def test_nobody_signs_twice(assessment: Approval, counsel: Ed25519Signer) -> None:
    with pytest.raises(FormatError, match="has signed it already"):
        seal_approval(assessment, counsel, counsel)


# ── revocation ──


def _revocation(approval: Approval, **values: object) -> Revocation:
    fields = {"approval": approval.id, "holder": approval.holder, "reason": "list changed"}
    return Revocation(**fields | {"at": approval.issued} | values)  # type: ignore[arg-type]


def _revoke(world: World, region: str, approval: Approval, signer: Ed25519Signer) -> Path:
    path = world.homes[region].approvals / file_name(approval.id, ".revoked.dsse.json")
    path.write_bytes(seal_revocation(_revocation(approval), signer))
    return path


@given(reason=st.text(min_size=1, max_size=1000), name=st.text(min_size=1, max_size=200))
def test_a_revocation_survives_its_bytes(reason: str, name: str) -> None:
    revocation = Revocation(approval=ApprovalId(name), holder=CN, reason=reason, at=1e9)
    assert revocation_from_bytes(revocation.to_bytes()) == revocation


@pytest.mark.parametrize("change", [b"", b"{}", b'{"approval":"x"}', b"\xff"])
def test_a_malformed_revocation_is_an_error(change: bytes) -> None:
    with pytest.raises(FormatError):
        revocation_from_bytes(change)


def _after_a_round(world: World) -> Place:
    """China's place, in a run whose first round went through; the second is open."""
    world.run_to(WORLD, 1, "released")
    cn = world.place("cn")
    for name in 2 * ("de", "us", "cn"):  # a release is admitted once a majority has cosigned it
        world.place(name).turn()
    assert advance(world.hub, WORLD)
    assert cn.view().round == 2
    return cn


def test_a_revocation_in_the_middle_of_a_run_stops_the_next_decision(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given a run in which China has sent its first update
    cn = _after_a_round(world)
    # when counsel revokes the assessment
    _revoke(world, "cn", assessment, counsel)
    # then China's next update is refused, and the log holds the signed revocation, once
    with pytest.raises(Refused) as caught:
        cn.turn()
    assert "CN-AUTO-2026" in caught.value.rules
    (entry,) = [entry for entry in world.entries("cn") if entry.kind == "revocation"]
    assert entry.inputs == (assessment.id, CN, "list changed")


def test_an_expiry_in_the_middle_of_a_run_stops_the_next_decision(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given an assessment that ends in an hour, and a round that went through
    path = world.homes["cn"].approvals / file_name(assessment.id)
    short = replace(assessment, expires=float(int(world.clock())) + 3600)
    path.write_bytes(seal_approval(short, counsel))
    cn = _after_a_round(world)
    # when the hour is over
    world.clock.now_s += 3600
    # then the next update is refused
    with pytest.raises(Refused) as caught:
        cn.turn()
    assert "CN-AUTO-2026" in caught.value.rules


def test_removing_the_file_of_a_revocation_undoes_nothing(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given a revocation that China's gateway has seen
    cn = world.place("cn")
    path = _revoke(world, "cn", assessment, counsel)
    assert assessment not in cn.region.law.approvals()
    # when its file is removed, and the gateway starts again
    path.unlink()
    assert assessment not in cn.region.law.approvals()
    cn = world.restart_place("cn")
    # then the paper is still revoked, and the entry stands in the log once
    assert assessment not in cn.region.law.approvals()
    assert [entry.kind for entry in world.entries("cn")].count("revocation") == 1


def test_a_revocation_under_another_name_is_one(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given the file of a revocation that somebody gave the name of an approval
    path = _revoke(world, "cn", assessment, counsel)
    path.rename(path.with_name("harmless.dsse.json"))
    # when the papers are read, then it ends the approval
    assert assessment not in world.place("cn").region.law.approvals()


def test_an_operator_ends_its_own_papers_only(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given a revocation of China's assessment by American counsel, under its own name and China's
    us = world.signer("us", "counsel")
    path = world.homes["cn"].approvals / "us.revoked.dsse.json"
    own = _revocation(assessment, holder=OperatorId("us operator"))
    path.write_bytes(seal_revocation(own, us))
    approvals = world.place("cn").region.law.approvals
    # when the papers are read, then the first ends nothing of China's
    assert assessment in approvals()
    # and the second is a forgery
    path.write_bytes(seal_revocation(_revocation(assessment), us))
    with pytest.raises(ConfigError, match=r"us\.revoked\.dsse\.json"):
        approvals()


def test_an_approval_that_is_signed_again_stays_revoked(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    # given a revoked assessment
    _revoke(world, "cn", assessment, counsel)
    # when counsel signs one of the same id again
    path = world.homes["cn"].approvals / "again.dsse.json"
    path.write_bytes(seal_approval(replace(assessment, issuer="another"), counsel))
    # then it counts for nothing: a new approval has a new id
    held = world.place("cn").region.law.approvals()
    assert assessment.id not in {paper.id for paper in held}


@pytest.fixture
def logged(world: World, assessment: Approval, counsel: Ed25519Signer) -> Entry:
    """The entry of a revocation."""
    _revoke(world, "cn", assessment, counsel)
    world.place("cn").region.law.approvals()
    return world.entries("cn")[-1]


FORGERIES: dict[str, Callable[[Entry], Entry]] = {
    "another approval": lambda e: changed(e, inputs=("x", *e.inputs[1:])),
    "another reason": lambda e: changed(e, inputs=(*e.inputs[:2], "x")),
    "another digest": lambda e: changed(e, subject="sha256:" + "0" * 64),
    "no signature": lambda e: changed(e, envelope=""),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_an_auditor_sees_whose_revocation_it_is(
    world: World, logged: Entry, forge: Callable[[Entry], Entry]
) -> None:
    # given an auditor with the agreement
    audit = Audit(owner=RegionId("cn"), agreements={world.agreement.digest: world.agreement})
    # when the entry is read as it was written, and as somebody changed it
    audit.read(1, logged.to_bytes())
    # then the first holds and the second does not
    with pytest.raises(LogError, match="entry 2"):
        audit.read(2, forge(logged).to_bytes())


def test_an_entry_that_names_nothing_stops_the_region(world: World, logged: Entry) -> None:
    # given a log with a revocation of nothing
    log = world.place("cn").region.log
    log.append(changed(logged, inputs=()).to_bytes())
    # when it is read back, then a person must look at it
    with pytest.raises(LogError, match="not a revocation"):
        list(recorded(log.openings()))


def test_every_revocation_leaves_fewer_papers(world: World) -> None:
    cn = world.place("cn").region
    before = {paper.id for paper in cn.law.approvals()}
    for signer, paper in _each(world, cn.law.approvals()):
        _revoke(world, "cn", paper, signer)
        after = {left.id for left in cn.law.approvals()}
        assert after < before
        before = after
    assert not before


def _each(
    world: World, approvals: tuple[Approval, ...]
) -> Iterator[tuple[Ed25519Signer, Approval]]:
    holders = {party.operator: party.id for party in world.agreement.terms.regions}
    for approval in approvals:
        yield world.signer(holders[approval.holder], "counsel"), approval


def test_papers_that_are_all_there_say_who_signed_them(
    world: World, assessment: Approval, counsel: Ed25519Signer
) -> None:
    paper = open_paper(world.agreement, seal_approval(assessment, counsel), what="paper")
    assert isinstance(paper, Paper)
    assert (paper.signers, paper.missing) == ((counsel.public_key,), ())
