"""What a hub's log must say of every model that it hands out: from whose updates it came.

arrivals ─▶ merge ─▶ candidates ─▶ release record ─▶ releases, snapshots

Each is held against those before it; nothing here asks anybody but the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.errors import LogError
from ringfence.core.terms import Lineage
from ringfence.crossing.entries import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """One merge as the log tells it: what went in, in order of region id, and what came out.

    `released_before` is the newest round of the lineage that was released before it, 0 for none.
    """

    index: int
    agreement: Agreement
    lineage: str
    round: int
    parent: str
    payload: str
    model: str
    statements: tuple[str, ...]
    updates: tuple[Declaration, ...]
    released_before: int

    @property
    def jurisdictions(self) -> tuple[str, ...]:
        """The tags of everything that went in, sorted."""
        return tuple(sorted({code for update in self.updates for code in update.jurisdictions}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """That a merge was released; `merge` is what it promotes."""

    index: int
    model: str
    merge: Merge


def read_merge(
    entry: Entry,
    index: int,
    updates: Sequence[Declaration],
    agreement: Agreement,
    *,
    released_before: int,
) -> Merge:
    """The merge that an entry records of the `updates` whose statements it names.

    Raises: LogError when they are not updates of this very round, one a contributor, in order.
    """
    if len(entry.inputs) < 2:
        raise LogError("a merge that names no parent and no model")
    lineage = agreement.lineage(entry.lineage)
    senders = [update.sender for update in updates]
    if senders != sorted({*senders} & {*lineage.contributors}) or len(senders) < lineage.quorum:
        raise LogError(
            f"merges updates of {senders}; expected at least {lineage.quorum} of "
            f"{sorted(lineage.contributors)}, one each, in order"
        )
    for update in updates:
        for what, want, got in (
            ("kind", "update", update.kind),
            ("agreement", agreement.digest, update.agreement),
            ("lineage", entry.lineage, update.lineage),
            ("round", entry.round, update.round),
            ("parent", entry.inputs[0], update.parent),
        ):
            _same(f"{what} of the update of {update.sender}", want, got)
    return Merge(
        index=index,
        agreement=agreement,
        lineage=entry.lineage,
        round=entry.round,
        parent=entry.inputs[0],
        payload=entry.subject,
        model=entry.inputs[1],
        statements=entry.inputs[2:],
        updates=tuple(updates),
        released_before=released_before,
    )


def read_release(
    entry: Entry, index: int, updates: Sequence[Declaration], merges: Sequence[Merge]
) -> ReleaseRecord:
    """The release that an entry records, of the newest of its round's `merges`.

    `updates` are those whose statements it names: a statement may have been renewed since the
    merge, over the same payload.
    Raises: LogError when it is of something else, or a member's measurement is missing or unknown.
    """
    merge = merges[-1]
    _same("model", merge.model, entry.subject)
    _same("parent and payload", (merge.parent, merge.payload), entry.inputs[:2])
    _same("updates", _payloads(merge.updates), _payloads(updates))
    lineage = merge.agreement.lineage(merge.lineage)
    measured = sorted(text.partition("=")[0] for text in entry.measurements)
    expected = sorted({*lineage.recipients} - {merge.agreement.hub}) if lineage.gate else []
    _same("measurements of", expected, measured)
    return ReleaseRecord(index=index, model=entry.subject, merge=merge)


def check_candidate(declaration: Declaration, merges: Sequence[Merge]) -> None:
    """Raise `LogError` unless the statement announces what its round's newest merge made."""
    merge = merges[-1]
    _same_ancestry(declaration, merge)
    payload = None if declaration.payload is None else declaration.payload.digest
    _same("payload", merge.payload, payload)
    named = [item.digest for item in declaration.inputs if item.role == "update"]
    _same("updates", _payloads(merge.updates), named)


def check_release(declaration: Declaration, record: ReleaseRecord) -> None:
    """Raise `LogError` unless the statement promotes exactly the model on record."""
    _same_ancestry(declaration, record.merge)


def check_snapshot(
    declaration: Declaration,
    agreement: Agreement,
    releases: Mapping[tuple[str, int], ReleaseRecord],
) -> None:
    """Raise `LogError` unless the model is the lineage's start, or one of its recorded releases."""
    lineage = agreement.lineage(declaration.lineage)
    if declaration.round:
        record = releases.get((lineage.id, declaration.round))
        if record is None:
            raise LogError(f"a snapshot of {lineage.id} round {declaration.round}, never released")
        model, tags = record.model, record.merge.jurisdictions
    else:
        model, tags = lineage.start.model, _start_tags(lineage, releases)
    _same("model", model, declaration.model)
    _same("jurisdictions", tags, declaration.jurisdictions)


def _start_tags(
    lineage: Lineage, releases: Mapping[tuple[str, int], ReleaseRecord]
) -> tuple[str, ...]:
    """A branch starts with the tags of the release that it leaves, all others with none."""
    for (of, _), record in releases.items():
        if of == lineage.start.branch_of and record.model == lineage.start.model:
            return record.merge.jurisdictions
    return ()


def _same_ancestry(declaration: Declaration, merge: Merge) -> None:
    for what, want, got in (
        ("model", merge.model, declaration.model),
        ("parent", merge.parent, declaration.parent),
        ("jurisdictions", merge.jurisdictions, declaration.jurisdictions),
    ):
        _same(what, want, got)


def _payloads(updates: Sequence[Declaration]) -> list[str]:
    return [update.payload.digest for update in updates if update.payload is not None]


def _same(what: str, want: object, got: object) -> None:
    if want != got:
        raise LogError(f"expected {what} {want}, got {got}")
