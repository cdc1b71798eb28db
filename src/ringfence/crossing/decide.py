"""From a draft to a declaration that carries the law's permit."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ringfence.core.artifacts import (
    Declaration,
    Input,
    Kind,
    Payload,
    PayloadCodec,
    VerdictNote,
)
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest
from ringfence.crossing.cosigned import CLOCK_TOLERANCE_S
from ringfence.crossing.docket import note_of
from ringfence.crossing.exports import crossing_id
from ringfence.crossing.hardware import chip_class
from ringfence.crossing.law import Law, Ruling, data_classes, export, judge
from ringfence.crossing.region import Region
from ringfence.policy.words import Action

_RENEWAL_S = CLOCK_TOLERANCE_S - 60.0
"""An offer is signed anew after this long, so that the other end does not find it too old."""

_UNDECIDED = VerdictNote(question="", packs=(), approvals=(), valid_until="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a place knows of an artifact before the law has spoken."""

    kind: Kind
    lineage: str
    round: int
    parent: str
    model: str
    layout: str
    codec: PayloadCodec
    payload: Payload | None
    inputs: tuple[Input, ...]
    jurisdictions: tuple[str, ...]
    examples: int = 0
    metrics: tuple[tuple[str, float], ...] = ()


def decide(region: Region, draft: Draft, *, recipient: str) -> Declaration:
    """Judge the export of `draft` to `recipient`; returns the declaration with its verdict.

    What was asked is in the log before anybody signs the answer.
    Raises: Refused at stage `law`, naming the rules, when any pack says no.
    """
    undecided = declare(region.law, draft, sender=region.id, recipient=recipient)
    (ruling,) = judge_reserved(region.law, undecided, Action.EXPORT)
    question = region.docket.enter(ruling, region.law.judge.packs, undecided)
    return msgspec.structs.replace(undecided, verdict=note_of(ruling.verdict, question))


def judge_reserved(law: Law, declaration: Declaration, *actions: Action) -> tuple[Ruling, ...]:
    """Reserve whom the crossing counts, then ask; what the law refuses is given back.

    The caller settles it (`statements.record_intent`, `statements.issue_receipt`) or gives it back.
    Raises: Refused.
    """
    if law.ledger is not None:
        asked = export(law, declaration)
        # What is counted already needs no turn: it was there before everything that is reserved.
        if not law.ledger.counts(asked, now_s=law.clock()):
            law.ledger.reserve(asked)
    try:
        return tuple(judge(law, declaration, action=action) for action in actions)
    except Refused:
        give_back(law, declaration)
        raise


def give_back(law: Law, declaration: Declaration) -> None:
    """A crossing that was reserved does not take place."""
    if law.ledger is not None:
        law.ledger.release(crossing_id(declaration))


def still_permitted(region: Region, declaration: Declaration) -> bool:
    """Ask again before an offer; whether the statement that was signed may be sent as it is.

    Raises: Refused when the law now says no.
    """
    age_s = region.clock() - from_rfc3339(declaration.issued)
    return verdict_stands(region, declaration) and 0 <= age_s < _RENEWAL_S


def verdict_stands(region: Region, declaration: Declaration) -> bool:
    """Ask again before a send or resume; whether the signed verdict is still the law's answer.

    A statement under an agreement that was succeeded does not stand any more.
    Raises: Refused when the law now says no.
    """
    if declaration.agreement != region.agreement.digest:
        return False
    signed = declaration.verdict
    verdict = note_of(_judge_again(region.law, declaration).verdict, Digest(signed.question))
    return (verdict.packs, verdict.approvals) == (
        signed.packs,
        signed.approvals,
    ) and region.clock() < from_rfc3339(signed.valid_until)


def _judge_again(law: Law, declaration: Declaration) -> Ruling:
    """Ask about a statement whose intent is in the log: it counts since then.

    What goes on when its window is over, a year later or on New Year's Day, counts anew.
    """
    asked = export(law, declaration)
    if law.ledger is None or law.ledger.counts(asked, now_s=law.clock()):
        return judge(law, declaration, action=Action.EXPORT)
    (ruling,) = judge_reserved(law, declaration, Action.EXPORT)
    law.ledger.settle(asked, now_s=law.clock())
    return ruling


def declare(law: Law, draft: Draft, *, sender: str, recipient: str) -> Declaration:
    """Everything that is said of an artifact but the verdict."""
    agreement = law.agreement
    return Declaration(
        agreement=agreement.digest,
        kind=draft.kind,
        lineage=draft.lineage,
        round=draft.round,
        sender=sender,
        recipient=recipient,
        parent=draft.parent,
        model=draft.model,
        layout=draft.layout,
        codec=draft.codec,
        payload=draft.payload,
        inputs=draft.inputs,
        jurisdictions=draft.jurisdictions,
        data_classes=data_classes(agreement, draft.jurisdictions),
        hardware=chip_class(agreement.region(sender), at=law.clock()).value,
        purpose=agreement.terms.training.purpose,
        examples=draft.examples,
        metrics=dict(draft.metrics),
        verdict=_UNDECIDED,
        issued=to_rfc3339(law.clock()),
    )


def check_facts(law: Law, declaration: Declaration, *, stage: str) -> None:
    """Refuse a counterparty's declaration unless it says what this region would say itself.

    What follows from the agreement, from the tags and from the kind is declared, and not chosen.
    Raises: Refused, naming the first field that differs.
    """
    draft = Draft(
        kind=declaration.kind,
        lineage=declaration.lineage,
        round=declaration.round,
        parent=declaration.parent,
        model=declaration.model,
        layout=declaration.layout,
        codec=declaration.codec,
        payload=declaration.payload,
        inputs=declaration.inputs,
        jurisdictions=declaration.jurisdictions,
    )
    ours = declare(law, draft, sender=declaration.sender, recipient=declaration.recipient)
    # Of the day on which it was declared: the law may have begun to control a chip since.
    issued = from_rfc3339(declaration.issued)
    hardware = chip_class(law.agreement.region(declaration.sender), at=issued)
    ours = msgspec.structs.replace(ours, hardware=hardware.value)
    for attribute in ("data_classes", "hardware", "purpose"):
        field = attribute.replace("_", "-")
        want, got = getattr(ours, attribute), getattr(declaration, attribute)
        if want != got:
            raise Refused(
                stage=stage,
                reason=f"wrong-{field}",
                detail=f"expected {field} {want}, which follows from the agreement, "
                f"got {str(got)[:80]}",
            )


def check_verdict_time(law: Law, declaration: Declaration, *, stage: str) -> None:
    """Refuse a statement whose sender's verdict has run out, by a clock that may be believed.

    Raises: Refused; FormatError when the time is not one.
    """
    law.require_time()
    if from_rfc3339(declaration.verdict.valid_until) <= law.clock():
        raise Refused(
            stage=stage,
            reason="verdict-expired",
            detail=f"the sender's verdict held until {declaration.verdict.valid_until}; ask the "
            "law again and send a new statement",
        )


def check_clock(law: Law, declaration: Declaration, *, stage: str) -> None:
    """Refuse an offer that was not issued about now, by our clock (PLAT-CLOCK).

    Raises: Refused; FormatError when the time is not one.
    """
    law.require_time()
    now_s = law.clock()
    if abs(now_s - from_rfc3339(declaration.issued)) > CLOCK_TOLERANCE_S:
        raise Refused(
            stage=stage,
            reason="clock",
            detail=f"issued {declaration.issued}, here it is {to_rfc3339(now_s)}; expected at most "
            f"{CLOCK_TOLERANCE_S:.0f} s between them: check both clocks, and sign anew",
            rules=("PLAT-CLOCK",),
        )
