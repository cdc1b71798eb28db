"""Judges again from what a log holds: the facts, the packs and the papers, and nothing else.

    trial = read_trial(entry)                     # of a `verdict` entry
    check_agreed(trial.record.question, agreement, declaration, action=action, region=owner)
    Retrial().judge(trial, packs, approvals)      # LogError where the packs say something else

What follows from agreement and declaration is put together once more, the way in which
`law.question` does it.  The rest is the region's own word: screenings, counters, tests, what it
revoked.  That it was true no log can show; what it was, nobody can change afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.errors import LogError
from ringfence.core.ids import Digest, RegionId
from ringfence.core.terms import Party as AgreedParty
from ringfence.crossing.docket import note_of, said
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Known, put_question
from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Question, Screening
from ringfence.policy.judge import Judge
from ringfence.policy.packs import (
    PLATFORM,
    SCHEMA,
    Pack,
    Vocabulary,
    parse_pack,
    parse_vocabulary,
    require_rules,
    shipped_schema,
)
from ringfence.policy.record import Record
from ringfence.policy.words import Action

_SHOWN_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A recorded question, and in lines what the packs said; `packs` are `name@digest`."""

    record: Record
    lines: tuple[str, ...]
    packs: tuple[str, ...]


def read_trial(entry: Entry) -> Trial:
    """Parse a `verdict` entry.

    Raises: LogError when its digest is another question's; FormatError when it is none.
    """
    data = entry.envelope.encode()
    if statement_digest(data) != entry.subject:
        raise LogError(f"expected the question {entry.subject}, got {statement_digest(data)}")
    return Trial(
        record=Record.from_bytes(data),
        lines=entry.measurements,
        packs=tuple(
            line.removeprefix("pack=") for line in entry.measurements if line.startswith("pack=")
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The screenings of a recorded question, by operator."""

    found: frozenset[tuple[str, Screening | None]]

    def of(self, party: AgreedParty) -> Screening | None:
        """As `law.Screenings`; what was agreed of a party is compared afterwards."""
        return dict(self.found).get(party.operator)


def check_agreed(
    question: Question,
    agreement: Agreement,
    declaration: Declaration,
    *,
    action: Action,
    region: RegionId,
) -> None:
    """Raise `LogError` unless `region` asked about this declaration, under this agreement."""
    parties = (question.sender, question.recipient, *question.contributors)
    known = Known(
        now=question.now,
        screenings=Recorded(found=frozenset((each.operator, each.screening) for each in parties)),
        operations=None if question.compute is None else question.compute.training_ops,
        counters=question.counters,
        extraction=question.extraction,
        approvals=(),
        revoked=question.revoked,
    )
    expected = put_question(agreement, declaration, known, action=action, region=region)
    planned = agreement.planned_operations
    if question.compute is not None and question.compute.training_ops < planned:
        raise LogError(
            f"the question that was recorded: expected compute of at least {planned:g} operations, "
            f"which were agreed, got {question.compute.training_ops:g}"
        )
    for each in fields(Question):
        want, got = getattr(expected, each.name), getattr(question, each.name)
        if want != got:
            raise LogError(
                f"the question that was recorded: expected {each.name} {_shown(want)}, which "
                f"follows from the agreement and the statement, got {_shown(got)}"
            )


class Retrial:
    """Asks the packs of a log again; each is parsed once.  `judged` counts the questions."""

    def __init__(self) -> None:
        self.judged = 0
        self._schema = shipped_schema()
        self._vocabularies: dict[str, Vocabulary] = {}
        self._packs: dict[str, Pack] = {}
        self._judges: dict[tuple[str, ...], Judge] = {}

    def judge(
        self, trial: Trial, packs: Mapping[str, Entry], approvals: Sequence[Approval]
    ) -> None:
        """Ask again, with the recorded `packs` by `name@digest` and the papers of the record.

        Raises: LogError when the answer is another; ConfigError when a pack does not parse.
        """
        verdict = self._judge(trial, packs).judge(trial.record.asked(approvals))
        if not verdict.permitted:
            rules = "; ".join(map(str, verdict.rules))
            raise LogError(f"is recorded as a permit, and the packs refuse: {rules}")
        lines = said(note_of(verdict, Digest("")))
        if lines != trial.lines:
            raise LogError(
                f"judged again, the packs say {_only(lines, trial.lines)}; "
                f"recorded is {_only(trial.lines, lines)}"
            )
        self.judged += 1

    def require_pinned(self, trial: Trial, agreement: Agreement) -> None:
        """Raise `ConfigError` unless the packs hold every rule that the agreement pins for them."""
        used = {self._packs[name].name: self._packs[name] for name in _laws(trial)}
        for least in agreement.terms.packs:
            if least.name in used:
                require_rules(used[least.name], least.rules)

    def _judge(self, trial: Trial, packs: Mapping[str, Entry]) -> Judge:
        found = self._judges.get(trial.packs)
        if found is None:
            vocabulary = self._vocabulary(trial, packs)
            for name in _laws(trial):
                if name not in self._packs:
                    self._packs[name] = parse_pack(
                        name.partition("@")[0], packs[name].envelope, vocabulary=vocabulary
                    )
            # In the order in which they are loaded, which is that of the flags in an answer.
            loaded = sorted(
                (self._packs[name] for name in _laws(trial)),
                key=lambda pack: (pack.name != PLATFORM, pack.name),
            )
            found = self._judges[trial.packs] = Judge(packs=tuple(loaded))
        return found

    def _vocabulary(self, trial: Trial, packs: Mapping[str, Entry]) -> Vocabulary:
        """Raises `LogError` when the question was put by another schema than this program's."""
        schemas = [name for name in trial.packs if name.startswith(f"{SCHEMA}@")]
        if len(schemas) != 1:
            raise LogError(f"expected one schema among its packs, got {len(schemas)}")
        (name,) = schemas
        entry = packs[name]
        if entry.subject != self._schema:
            raise LogError(
                f"was judged by schema {entry.subject}, written by Ringfence {entry.inputs[1]}; "
                f"this program's schema is {self._schema}: judge again with that version"
            )
        if name not in self._vocabularies:
            self._vocabularies[name] = parse_vocabulary(entry.envelope)
        return self._vocabularies[name]


def _laws(trial: Trial) -> tuple[str, ...]:
    return tuple(name for name in trial.packs if not name.startswith(f"{SCHEMA}@"))


def _only(these: Sequence[str], those: Sequence[str]) -> str:
    """What `these` say and `those` do not; all of them, in order, where only the order differs."""
    return _shown([line for line in these if line not in those] or list(these))


def _shown(value: object) -> str:
    text = str(sorted(map(str, value)) if isinstance(value, frozenset) else value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
