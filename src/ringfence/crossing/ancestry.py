"""What a hub's log must say of every model that it hands out: from whose updates it came.

arrivals ─▶ merge ─▶ candidates ─▶ release record ─▶ releases, snapshots

Each is held against those before it; nothing here asks anybody but the log.  Tags follow ancestry:
an update bears its region's, its base's and its regional state's, a model those of all that was
merged into it, and neither bears any other (PLAT-DERIVED).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    `inherited` are the tags of the parent, None where an entry is not here that would tell.
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
    inherited: tuple[str, ...] | None

    @property
    def jurisdictions(self) -> tuple[str, ...]:
        """The tags of everything that went in, sorted."""
        return merged_tags(self.agreement, self.updates, inherited=self.inherited or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a merge must build on; `tags` are None where an entry is not here that would tell."""

    model: str
    tags: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """That a merge was released; `merge` is what it promotes."""

    index: int
    model: str
    merge: Merge


def least_tags(agreement: Agreement, sender: str, inherited: Iterable[str]) -> frozenset[str]:
    """What an update bears at least: the jurisdiction of its region, and the tags of its base."""
    return frozenset({str(agreement.jurisdiction(sender)), *inherited})


def unfounded_tags(
    agreement: Agreement, update: Declaration, inherited: Iterable[str]
) -> frozenset[str]:
    """Tags that nothing in an update's ancestry can bring.

    Regional state may bring any: its bytes and its closure stay in the region, so that only the
    region can say.
    """
    if any(item.role == "state" for item in update.inputs):
        return frozenset()
    least = least_tags(agreement, update.sender, inherited)
    return frozenset(update.jurisdictions) - least


def merged_tags(
    agreement: Agreement, updates: Iterable[Declaration], *, inherited: Iterable[str]
) -> tuple[str, ...]:
    """The union of the tags of everything that is merged, the base's among them, sorted."""
    tags = set(inherited)
    for update in updates:
        tags.update(update.jurisdictions, least_tags(agreement, update.sender, ()))
    return tuple(sorted(tags))


def check_tags(
    update: Declaration,
    agreement: Agreement,
    lineage: Lineage,
    *,
    inherited: tuple[str, ...] | None,
) -> None:
    """Raise `LogError` unless an update bears the tags of its ancestry, and none that is barred.

    `inherited` are its base's, None where they are not known.
    """
    declared = frozenset(update.jurisdictions)
    what = f"the update of {update.sender}"
    if missing := least_tags(agreement, update.sender, inherited or ()) - declared:
        raise LogError(f"{what} lacks the jurisdictions {sorted(missing)}, which it inherits")
    if inherited is not None and (more := unfounded_tags(agreement, update, inherited)):
        raise LogError(
            f"{what} bears the jurisdictions {sorted(more)}, which neither its region nor its "
            "base brings, and declares no regional state that could"
        )
    if barred := declared.intersection(lineage.bars):
        raise LogError(f"{what} bears {sorted(barred)}, which lineage {lineage.id} bars")


def read_merge(
    entry: Entry,
    index: int,
    updates: Sequence[Declaration],
    agreement: Agreement,
    *,
    released_before: int,
    base: Base | None,
) -> Merge:
    """The merge that an entry records of the `updates` whose statements it names.

    `base` is what the lineage stood on before it, None where an entry is not here that would tell.
    Raises: LogError when they are not updates of this very round, one a contributor, in order;
    when the parent is another than `base`; when an update bears fewer tags than it inherits, one
    that nothing brings, or one that the lineage bars.
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
    if base is not None:
        _same("parent", base.model, entry.inputs[0])
    inherited = None if base is None else base.tags
    for update in updates:
        check_tags(update, agreement, lineage, inherited=inherited)
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
        inherited=inherited,
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
        base = Base(model=record.model, tags=record.merge.jurisdictions)
    else:
        base = start_of(agreement, lineage, releases)
        if base.tags is None:
            raise LogError(f"a start of {lineage.id}, whose release of another lineage is nowhere")
    _same("model", base.model, declaration.model)
    _same("jurisdictions", base.tags, declaration.jurisdictions)


def check_received(
    declaration: Declaration, sent: Iterable[Declaration], *, base_tags: tuple[str, ...]
) -> None:
    """Raise `LogError` unless a model that a region received bears the tags that it must know of.

    `sent` are the region's own updates of the round, `base_tags` those of the release that it
    stood on.  The others' updates it knows by digest only: what they bring stands in the hub's log.
    """
    merged = {item.digest for item in declaration.inputs if item.role == "update"}
    least = set(base_tags)
    for update in sent:
        if not merged.isdisjoint(_payloads([update])):
            least.update(update.jurisdictions)
    if missing := least.difference(declaration.jurisdictions):
        raise LogError(
            f"expected at least the jurisdictions {sorted(least)} of what went in, "
            f"{sorted(missing)} are missing"
        )


def start_of(
    agreement: Agreement,
    lineage: Lineage,
    releases: Mapping[tuple[str, int], ReleaseRecord],
) -> Base:
    """What a lineage starts from: a branch with the tags of the release that it leaves, or none.

    The tags are None when that release is not on record.
    """
    line = lineage
    for _ in agreement.terms.lineages:
        origin = line.start.branch_of
        if not origin:
            return Base(model=lineage.start.model, tags=())
        if agreement.lineage(origin).start.model != lineage.start.model:
            rounds = [
                number
                for (of, number), record in releases.items()
                if of == origin and record.model == lineage.start.model
            ]
            tags = releases[origin, min(rounds)].merge.jurisdictions if rounds else None
            return Base(model=lineage.start.model, tags=tags)
        # A branch off a lineage's own start, before anything was merged into it.
        line = agreement.lineage(origin)
    return Base(model=lineage.start.model, tags=None)


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
