"""Judged again: a round's logs say enough to repeat every verdict, and no lie about one holds.

The liar here is the owner of the log, who has all its keys and signs whatever it says anew.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.places.founding import Template, digest_of
from tests.places.records import rewritten, told_question
from tests.places.world import WORLD, World, opened

from ringfence.cli.agreement_text import render
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.errors import LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.audit import Audit
from ringfence.crossing.decide import Draft, declare, judge_reserved
from ringfence.crossing.docket import recorded, said
from ringfence.crossing.entries import Entry
from ringfence.crossing.papers import APPROVAL_PAYLOAD_TYPE
from ringfence.crossing.retrial import Retrial, check_agreed
from ringfence.crossing.statements import seal_declaration
from ringfence.policy.facts import Compute, Question
from ringfence.policy.record import Record
from ringfence.policy.words import Action, Chip, DataClass, Trait
from ringfence.trust.dsse import seal
from ringfence.trust.keys import Ed25519Signer

changed = msgspec.structs.replace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """Logs after one released round, and the keys to tell other stories with."""

    agreement: Agreement
    signers: dict[tuple[str, str], Ed25519Signer]
    entries: dict[str, list[Entry]]

    def audit(self, entries: list[Entry], owner: str = "cn", *, judged: bool = True) -> Audit:
        audit = Audit(
            owner=RegionId(owner),
            agreements={self.agreement.digest: self.agreement},
            retrial=Retrial() if judged else None,
        )
        for index, entry in enumerate(entries):
            audit.read(index, entry.to_bytes())
        return audit

    def sent(self) -> tuple[int, int]:
        """Where China's update stands in its log, and the verdict on it."""
        entries = self.entries["cn"]
        intent = next(i for i, e in enumerate(entries) if e.kind == "intent")
        asked = self.audit(entries[: intent + 1], judged=False).seen[intent].declaration
        assert asked is not None
        subjects = [entry.subject for entry in entries]
        return intent, subjects.index(asked.verdict.question)

    def retold(self, **verdict: Any) -> list[Entry]:
        """China's log up to its update, whose statement says another verdict, signed anew."""
        intent, _ = self.sent()
        entries = list(self.entries["cn"][: intent + 1])
        declaration = self.audit(entries, judged=False).seen[intent].declaration
        assert declaration is not None
        declaration = changed(declaration, verdict=changed(declaration.verdict, **verdict))
        envelope = seal_declaration(declaration, self.signers["cn", "statement"])
        entries[intent] = changed(
            entries[intent], subject=statement_digest(envelope), envelope=envelope.decode()
        )
        return entries

    def answered(self, **verdict: Any) -> list[Entry]:
        """As `retold`, and the entry of the verdict says the same."""
        intent, asked = self.sent()
        declaration = self.audit(self.entries["cn"], judged=False).seen[intent].declaration
        assert declaration is not None
        entries = self.retold(**verdict)
        lines = said(changed(declaration.verdict, **verdict))
        entries[asked] = changed(entries[asked], measurements=lines)
        return entries

    def asked_otherwise(self, change: Callable[[Question], Question]) -> list[Entry]:
        """China's log up to its update, had its law been asked about another fact."""
        _, asked = self.sent()
        verdict = rewritten(self.entries["cn"][asked], change)
        entries = self.retold(question=verdict.subject)
        entries[asked] = verdict
        return entries


@pytest.fixture(scope="module")
def told(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with opened(template, tmp_path_factory.mktemp("told") / "federation") as world:
        world.run_to(WORLD, 1, "released")
        world.run_to(WORLD, 2, "open", "collecting")
        for name in ("cn", "de", "us"):
            world.place(name).turn(WORLD)
        yield Told(
            agreement=world.agreement,
            signers=dict(world.founded.signers),
            entries={name: world.entries(name) for name in world.homes},
        )


# ── what is recorded ──


@pytest.mark.parametrize("owner", ["hub", "cn", "de", "us"])
def test_every_crossing_of_a_round_is_judged_again(told: Told, owner: str) -> None:
    # given a region's log, its agreement and nothing else
    entries = told.entries[owner]
    # when it is audited and judged again
    audit = told.audit(entries, owner)
    # then every intent and every arrival had a verdict of its own, and each holds
    kinds = [entry.kind for entry in entries]
    crossings = kinds.count("intent") + kinds.count("arrival")
    assert audit.retrial is not None
    assert audit.retrial.judged == kinds.count("verdict") == crossings > 0


@pytest.mark.parametrize("owner", ["hub", "cn"])
def test_packs_and_papers_are_written_once(told: Told, owner: str) -> None:
    for kind in ("pack", "paper"):
        subjects = [entry.subject for entry in told.entries[owner] if entry.kind == kind]
        assert len(subjects) == len(set(subjects)) > 0
    names = {entry.inputs[0] for entry in told.entries["cn"] if entry.kind == "pack"}
    assert {"schema", "platform", "cn", "eu"} <= names


def test_a_region_that_starts_again_reads_back_what_it_wrote(world: World) -> None:
    # given a region that has sent an update
    cn = world.place("cn")
    cn.turn()
    before = [entry for entry in world.entries("cn") if entry.kind in ("pack", "paper")]
    # when it starts again and sends another
    cn = world.restart_place("cn")
    assert len(set(recorded(cn.region.log.openings()))) == len(before)
    world.run_to(WORLD, 1, "released")
    world.run_to(WORLD, 2, "open", "collecting")
    cn.turn()
    # then only what is new is written
    subjects = [e.subject for e in world.entries("cn") if e.kind in ("pack", "paper")]
    assert len(subjects) == len(set(subjects)) >= len(before)


def test_two_equal_questions_have_two_digests(told: Told) -> None:
    # given the records of one log
    records = [
        Record.from_bytes(entry.envelope.encode())
        for entry in told.entries["cn"]
        if entry.kind == "verdict"
    ]
    # then nobody who hears a digest can find its counters out by trying
    assert len({record.salt for record in records}) == len(records) > 1


# ── lies ──


def of_sender(**changes: Any) -> Callable[[Question], Question]:
    return lambda q: replace(q, sender=replace(q.sender, **changes))


def _listed(question: Question) -> Question:
    screening = question.recipient.screening
    assert screening is not None
    return replace(
        question,
        recipient=replace(question.recipient, screening=replace(screening, cn_listed=True)),
    )


def _counted(question: Question) -> Question:
    assert question.counters is not None
    return replace(question, counters=replace(question.counters, cn_people=1))


KNOWN_FACTS: dict[str, Callable[[Question], Question]] = {
    "a listed recipient": _listed,
    "no counters": lambda q: replace(q, counters=None),
    "an extraction test that failed": lambda q: replace(q, extraction=None),
    "another time": lambda q: replace(q, now=q.now - 400 * 86_400.0),
}
"""What a region knows by itself: only the packs can say what follows from it."""

FEWER_PEOPLE = {"fewer people": _counted}
"""Nobody but the region has counted them; what it counted, it cannot change afterwards."""

AGREED_FACTS: dict[str, Callable[[Question], Question]] = {
    "content": lambda q: replace(q, content=digest_of("another payload")),  # type: ignore[arg-type]
    "recipient": lambda q: replace(q, recipient=q.sender),
    "sender": of_sender(traits=frozenset({Trait.CIIO})),
    "contributors": lambda q: replace(q, contributors=frozenset()),
    "classes": lambda q: replace(q, classes=q.classes - {DataClass.IMPORTANT}),
    "lineage": lambda q: replace(q, lineage="us-market"),  # type: ignore[arg-type]
    "kind": lambda q: replace(q, kind="metrics"),  # type: ignore[arg-type]
    "purpose": lambda q: replace(q, purpose="public_service"),  # type: ignore[arg-type]
    "scope": lambda q: replace(q, scope=digest_of("scope")),  # type: ignore[arg-type]
    "market": lambda q: replace(q, market=None),
    "compute": lambda q: replace(q, compute=replace(q.compute, chip=Chip.H200_3A090)),  # type: ignore[type-var]
    "holding": lambda q: replace(q, holding=frozenset()),
    "affected": lambda q: replace(q, affected=False),
    "carries_seed": lambda q: replace(q, carries_seed=True),
}
"""What follows from the agreement and the statement."""


@pytest.mark.parametrize("name", [*KNOWN_FACTS, *FEWER_PEOPLE, *AGREED_FACTS])
def test_a_fact_that_was_changed_afterwards_is_another_question(told: Told, name: str) -> None:
    # given a recorded question in which one fact is another
    intent, asked = told.sent()
    change = (KNOWN_FACTS | FEWER_PEOPLE | AGREED_FACTS)[name]
    true = told.entries["cn"][asked]
    other = rewritten(true, change)
    # when it is under the digest of the true one, or under its own
    in_place, renamed = (list(told.entries["cn"]) for _ in range(2))
    in_place[asked] = changed(true, envelope=other.envelope)
    renamed[asked] = other
    # then the entry says so, or nothing stands behind the statement
    with pytest.raises(LogError, match=f"entry {asked}: expected the question {true.subject}"):
        told.audit(in_place, judged=False)
    with pytest.raises(LogError, match=f"entry {intent}: no verdict on question {true.subject}"):
        told.audit(renamed, judged=False)


@pytest.mark.parametrize("fact", AGREED_FACTS)
def test_what_was_agreed_and_declared_cannot_be_asked_otherwise(told: Told, fact: str) -> None:
    # given a log in which the question is another, and everything is signed for it
    entries = told.asked_otherwise(AGREED_FACTS[fact])
    # when, then: no pack needs to be asked
    with pytest.raises(LogError, match=f"entry {len(entries) - 1}: .* expected {fact} "):
        told.audit(entries, judged=False)


@pytest.mark.parametrize("name", KNOWN_FACTS)
def test_a_permit_that_the_packs_refuse_does_not_hold(told: Told, name: str) -> None:
    # given a log in which the region knew what the law does not let pass, and let it pass
    _, asked = told.sent()
    entries = told.asked_otherwise(KNOWN_FACTS[name])
    told.audit(entries, judged=False)
    # when it is judged again, then the packs say no
    with pytest.raises(LogError, match=f"entry {asked}: is recorded as a permit, .*refuse: "):
        told.audit(entries)


ANSWERS: dict[str, dict[str, Any]] = {
    "until": {"valid_until": "2099-01-01T00:00:00Z"},
    "approval": {"approvals": ()},
    "flag": {"flags": ("CN-EXP-2022",)},
}


@pytest.mark.parametrize("part", ANSWERS)
def test_an_answer_that_the_packs_did_not_give_does_not_hold(told: Told, part: str) -> None:
    # given a verdict that says something else, in the entry and in the statement
    _, asked = told.sent()
    entries = told.answered(**ANSWERS[part])
    told.audit(entries, judged=False)
    # when it is judged again, then the difference is shown
    with pytest.raises(LogError, match=f"entry {asked}: judged again, .*{part}="):
        told.audit(entries)


@pytest.mark.parametrize("part", ANSWERS)
def test_a_statement_says_what_its_verdict_said(told: Told, part: str) -> None:
    # given a statement with another answer than the one recorded for its question
    entries = told.retold(**ANSWERS[part])
    # when, then
    with pytest.raises(LogError, match=f"entry {len(entries) - 1}: expected answer"):
        told.audit(entries, judged=False)


def test_a_statement_that_was_signed_after_its_verdict_had_run_out(told: Told) -> None:
    # given an answer that held until long ago
    entries = told.answered(valid_until="2001-01-01T00:00:00Z")
    # when, then
    with pytest.raises(LogError, match=f"entry {len(entries) - 1}: issued .* held until 2001-"):
        told.audit(entries, judged=False)


def test_a_question_about_a_time_to_come_is_none_about_now(told: Told) -> None:
    # given a log in which the law was asked as of the day when a paper will be valid
    entries = told.asked_otherwise(lambda q: replace(q, now=q.now + 86_400.0))
    # when, then
    with pytest.raises(LogError, match=f"entry {len(entries) - 1}: issued .* under a verdict of"):
        told.audit(entries, judged=False)


# ── packs and papers ──


def at_kind(entries: list[Entry], kind: str, name: str = "") -> int:
    return next(
        i for i, e in enumerate(entries) if e.kind == kind and (not name or e.inputs[0] == name)
    )


@pytest.mark.parametrize("name", ["schema", "platform", "cn"])
def test_a_pack_with_one_letter_changed_is_not_that_pack(told: Told, name: str) -> None:
    # given a text with one letter more
    entries = list(told.entries["cn"])
    at = at_kind(entries, "pack", name)
    other = entries[at].envelope + "\n"
    # when it stands under the old digest, or under its own
    entries[at] = changed(entries[at], envelope=other)
    with pytest.raises(LogError, match=f"entry {at}: expected digest"):
        told.audit(entries, judged=False)
    entries[at] = changed(entries[at], subject=statement_digest(other.encode()))
    # then the verdicts that named it have none
    with pytest.raises(LogError, match=f"no pack {name}@sha256:"):
        told.audit(entries, judged=False)


def test_a_pack_without_the_rules_that_were_agreed_does_not_hold(told: Told) -> None:
    # given a log whose verdicts name a pack in which one pinned rule is missing
    entries = list(told.entries["cn"])
    at = at_kind(entries, "pack", "cn")
    policies = re.split(r"(?m)^(?=@id)", entries[at].envelope)
    lax = "".join(policy for policy in policies if not policy.startswith('@id("CN-DSL-31")'))
    assert lax != entries[at].envelope
    before, after = entries[at].subject, statement_digest(lax.encode())
    intent, asked = told.sent()
    declaration = told.audit(told.entries["cn"], judged=False).seen[intent].declaration
    assert declaration is not None
    packs = tuple(pack.replace(before, after) for pack in declaration.verdict.packs)
    entries = told.answered(packs=packs)
    entries.insert(asked, changed(entries[at], envelope=lax, subject=after))
    told.audit(entries, judged=False)
    # when it is judged again, then the agreement is what it fails by
    with pytest.raises(
        LogError, match=f"entry {intent + 1}: .*asks for rules it lacks: .*CN-DSL-31"
    ):
        told.audit(entries)


def test_questions_by_another_schema_need_another_version(told: Told) -> None:
    # given a log that was written by a version with another schema
    entries = list(told.entries["cn"])
    at = at_kind(entries, "pack", "schema")
    other = entries[at].envelope + "// one word more\n"
    before, after = entries[at].subject, statement_digest(other.encode())
    entries[at] = changed(entries[at], envelope=other, subject=after, inputs=("schema", "9.9.9"))
    asked = at_kind(entries, "verdict")
    lines = tuple(line.replace(before, after) for line in entries[asked].measurements)
    entries[asked] = changed(entries[asked], measurements=lines)
    # when it is judged again, then it says with which
    with pytest.raises(LogError, match=f"entry {asked}: .*written by Ringfence 9.9.9"):
        told.audit(entries[: asked + 1])


def test_a_verdict_whose_paper_is_not_there_does_not_hold(told: Told) -> None:
    # given a log without one paper
    entries = list(told.entries["cn"])
    at = at_kind(entries, "paper")
    del entries[at]
    # when, then
    with pytest.raises(LogError, match=r"no paper .* that it refers to"):
        told.audit(entries, judged=False)


FORGERIES: dict[str, Callable[[Told, Entry], Entry]] = {
    "another text": lambda told, e: changed(e, envelope=e.envelope + " "),
    "another name": lambda told, e: changed(e, inputs=("another paper", e.inputs[1])),
    "another holder": lambda told, e: changed(e, inputs=(e.inputs[0], "another holder")),
    "a revocation": lambda told, e: changed(e, envelope="{}", subject=statement_digest(b"{}")),
    "no signature": lambda told, e: _resigned(e, told.signers["cn", "statement"]),
}


def _resigned(entry: Entry, signer: Ed25519Signer) -> Entry:
    """The same approval, signed by a key that is nobody's to sign approvals with."""
    payload = base64.b64decode(msgspec.json.decode(entry.envelope)["payload"])
    envelope = seal(payload, payload_type=APPROVAL_PAYLOAD_TYPE, signer=signer)
    return changed(entry, envelope=envelope.decode(), subject=statement_digest(envelope))


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_paper_is_what_its_approvers_signed(
    told: Told, forge: Callable[[Told, Entry], Entry]
) -> None:
    # given a recorded paper that is none
    entries = list(told.entries["cn"])
    at = at_kind(entries, "paper")
    entries[at] = forge(told, entries[at])
    # when, then
    with pytest.raises(LogError, match=f"entry {at}: "):
        told.audit(entries, judged=False)


# ── what is not there ──


def test_a_question_that_no_entry_holds_does_not_hold(told: Told) -> None:
    # given a statement that names a question which was never asked
    entries = told.retold(question=digest_of("nothing"))
    # when, then
    with pytest.raises(LogError, match=f"entry {len(entries) - 1}: no verdict on question"):
        told.audit(entries, judged=False)


def test_an_arrival_without_a_question_does_not_hold(told: Told) -> None:
    # given a hub that recorded an update and not what its own law said of it
    entries = list(told.entries["hub"])
    at = at_kind(entries, "arrival")
    entries[at] = changed(entries[at], inputs=())
    # when, then
    with pytest.raises(LogError, match=f"entry {at}: expected the question"):
        told.audit(entries, "hub", judged=False)


def test_an_arrival_is_of_what_was_asked_about(told: Told) -> None:
    # given a hub whose arrival names the question about another region's update
    entries = list(told.entries["hub"])
    first, second, *_ = (i for i, e in enumerate(entries) if e.kind == "arrival")
    entries[second] = changed(entries[second], inputs=entries[first].inputs)
    # when, then
    with pytest.raises(LogError, match=f"entry {second}: the question that was recorded"):
        told.audit(entries, "hub", judged=False)


def test_a_copy_that_leaves_verdicts_out_holds_for_the_rest(told: Told) -> None:
    # given a copy without verdicts, packs and papers
    entries = [e for e in told.entries["cn"] if e.kind not in ("verdict", "pack", "paper")]
    audit = Audit(
        owner=RegionId("cn"), agreements={told.agreement.digest: told.agreement}, whole=False
    )
    # when, then
    for index, entry in enumerate(entries):
        audit.read(index, entry.to_bytes())


def test_operations_are_no_fewer_than_were_agreed(told: Told) -> None:
    # given an agreement that says how many operations an example takes, and a question that forgot
    intent, _ = told.sent()
    terms = told.agreement.terms
    training = changed(terms.training, operations_per_example=1e15)
    agreement = parse_agreement(render(changed(terms, training=training)).encode())
    declaration = told.audit(told.entries["cn"], judged=False).seen[intent].declaration
    assert declaration is not None
    asked = told_question(agreement, declaration, action=Action.EXPORT, region="cn")
    least = agreement.planned_operations
    forgot, remembered = (
        replace(asked, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=operations))
        for operations in (least / 2, least)
    )

    def check(question: Question) -> None:
        check_agreed(question, agreement, declaration, action=Action.EXPORT, region=RegionId("cn"))

    # when it is held against the agreement, then only what was agreed or more passes
    check(remembered)
    with pytest.raises(LogError, match="operations"):
        check(forgot)


def test_threads_of_one_region_write_each_pack_and_paper_once(world: World) -> None:
    # given a region whose log holds no verdict yet, and a permit
    cn = world.place("cn").region
    draft = _planned(world)
    (ruling,) = judge_reserved(cn.law, draft, Action.EXPORT)
    before = len(world.entries("cn"))
    # when eight threads record it at once
    with ThreadPoolExecutor(8) as threads:
        questions = list(
            threads.map(lambda _: cn.docket.enter(ruling, cn.law.judge.packs, draft), range(24))
        )
    # then every one of them has its verdict, behind what it rests on, which is there once
    new = world.entries("cn")[before:]
    assert sorted(questions) == sorted(e.subject for e in new if e.kind == "verdict")
    assert len(set(questions)) == 24
    kept = [entry.subject for entry in new if entry.kind != "verdict"]
    assert len(kept) == len(set(kept)) > 0
    assert [e.kind for e in new].index("verdict") == len(kept)


def _planned(world: World) -> Declaration:
    agreement = world.agreement
    draft = Draft(
        kind="update",
        lineage=WORLD,
        round=1,
        parent=agreement.lineage(WORLD).start.model,
        model="",
        layout=agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=(),
        jurisdictions=("CN",),
        examples=100,
    )
    return declare(world.place("cn").region.law, draft, sender="cn", recipient="hub")
