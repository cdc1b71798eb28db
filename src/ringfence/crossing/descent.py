"""The ancestry graph of a log: what came of what, over rounds, lineages and regions.

    start ◀── model world:1 ◀── model world:2 ...     a model descends from its parent release
                │      ▲                              and from every update merged into it
      copies:   ▼      │
              de's, us's copy ◀── update            an update from its region's copy of its base,
                                                      and from the update that left its state

A branch's start descends from the release that it leaves.  A region's own log knows the updates of
other regions by the digest of their payload only; the hub's knows all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.errors import ConfigError
from ringfence.core.terms import Lineage
from ringfence.crossing.ancestry import Merge
from ringfence.crossing.audit import Audit, Seen


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class ModelId:
    """One model of a lineage; round 0 is the lineage's start."""

    lineage: str
    round: int

    def __str__(self) -> str:
        return f"{self.lineage}:{self.round}"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class UpdateId:
    """One region's update of one round; `region` is its payload's digest where a log tells no more.

    An update that was renewed under another statement is the same one.
    """

    lineage: str
    round: int
    region: str

    def __str__(self) -> str:
        return f"update of {self.region} in {self.lineage}:{self.round}"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class CopyId:
    """A model as the hub sent it to one region."""

    model: ModelId
    region: str

    def __str__(self) -> str:
        return f"{self.model} as sent to {self.region}"


ItemId = ModelId | UpdateId | CopyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One signed statement, by its digest, and the approvals that its verdict relied on."""

    digest: str
    approvals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An update; `statements` are those under which it was merged, or crossed if it was not.

    `states` are the regional states that it declares, `state_of` the update of the same region that
    left the newest one it could start from.  Without a statement only `payload` is known.
    """

    id: UpdateId
    payload: str
    jurisdiction: str
    tags: tuple[str, ...]
    states: tuple[str, ...]
    statements: tuple[Said, ...]
    base: ModelId | None
    state_of: UpdateId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A start, a candidate or a release.

    `parent` is the release that it was made from, for a branch's start the one that it leaves; None
    for a first start, and where this log does not hold it (then `parent_digest` still names it).
    `agreement` is the one it was made under, empty for a start.
    """

    id: ModelId
    digest: str
    agreement: str
    released: bool
    parent: ModelId | None
    parent_digest: str
    updates: tuple[UpdateId, ...]
    tags: tuple[str, ...]

    @property
    def branches(self) -> bool:
        """Whether this is where its lineage left another one."""
        return self.parent is not None and self.parent.lineage != self.id.lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Everything that one log knows of who descends from whom.

    `order` names models and updates so that each comes behind what it descends from.
    """

    models: Mapping[ModelId, Model]
    updates: Mapping[UpdateId, Update]
    copies: Mapping[CopyId, tuple[Said, ...]]
    order: tuple[ModelId | UpdateId, ...]

    def releases(self, lineage: str | None = None) -> list[Model]:
        """Released models, of one lineage or of all, by lineage and round; starts are not."""
        found = (model for model in self.models.values() if model.released and model.id.round)
        return sorted(
            (model for model in found if lineage in (None, model.id.lineage)),
            key=lambda model: model.id,
        )

    def parents(self, item: ItemId) -> tuple[ItemId, ...]:
        """What an item comes of immediately."""
        match item:
            case CopyId():
                return (item.model,)
            case UpdateId():
                update = self.updates[item]
                before: list[ItemId] = list(self._base_copies(update))
                return (*before, *([update.state_of] if update.state_of else []))
            case ModelId():
                model = self.models[item]
                return (*model.updates, *([model.parent] if model.parent else []))

    def ancestors(self, item: ItemId) -> Iterator[ItemId]:
        """The item and everything that it comes of, each once."""
        waiting, seen = [item], {item}
        while waiting:
            each = waiting.pop()
            yield each
            new = [parent for parent in self.parents(each) if parent not in seen]
            seen.update(new)
            waiting.extend(new)

    def contributors(self, item: ItemId) -> frozenset[str]:
        """Regions whose updates an item comes of, as far as this log knows their names."""
        return frozenset(
            each.region
            for each in self.ancestors(item)
            if isinstance(each, UpdateId) and self.updates[each].jurisdiction
        )

    def _base_copies(self, update: Update) -> Iterator[ItemId]:
        """What its region had of an update's base; a branch may start from the copy it left."""
        base = update.base
        if base is None:
            return
        yield base
        while base is not None:
            copy = CopyId(model=base, region=update.id.region)
            if copy in self.copies:
                yield copy
                return
            base = self.models[base].parent if base.round == 0 else None


_PREFIX = re.compile(r"[0-9a-f]{8,64}")


def find_release(graph: Descent, text: str) -> Model:
    """The release, or start, that a person names: `lineage:round`, a digest or its beginning.

    The beginning is of at least 8 hexadecimal digits, with or without the digest's algorithm.  A
    release goes before a start of the same bytes.
    Raises: ConfigError when there is none, or more than one.
    """
    name, _, rest = text.rpartition(":")
    known = [model for model in graph.models.values() if model.released]
    if name in {model.id.lineage for model in known}:
        found = [model for model in known if str(model.id) == text]
    elif _PREFIX.fullmatch(rest):
        found = [model for model in known if _begins(model.digest, name, rest)]
        found = [model for model in found if model.id.round] or found
    elif name and rest.isdecimal():
        found = []
    else:
        raise ConfigError(
            f"{text[:80]!r} names no release: expected lineage:round, such as 'world:3', a model's "
            "digest, or at least 8 hexadecimal digits of its beginning"
        )
    if not found:
        held = ", ".join(str(model.id) for model in graph.releases()[-8:]) or "no release"
        raise ConfigError(f"this log holds no release {text[:80]!r}; the newest it holds: {held}")
    if len(found) > 1:
        names = ", ".join(str(model.id) for model in sorted(found, key=lambda each: each.id))
        raise ConfigError(f"{text[:80]!r} is ambiguous: it may be {names}; name one of these")
    return found[0]


def _begins(digest: str, algorithm: str, prefix: str) -> bool:
    of, _, value = digest.partition(":")
    return algorithm in ("", of) and value.startswith(prefix)


def descent(audit: Audit) -> Descent:
    """The graph of a log that was read by `audit`, the hub's or a region's."""
    builder = _Builder(audit)
    for seen in audit.seen:
        builder.read(seen)
    return builder.finish()


@dataclass(slots=True)
class _Drafted:
    """An update while the log is read: every statement of it, and those that were merged."""

    update: Update
    said: dict[str, Said] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)


class _Builder:
    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._merges = {each.index: each for of in audit.merges.values() for each in of}
        self._models: dict[ModelId, Model] = {}
        self._updates: dict[UpdateId, _Drafted] = {}
        self._copies: dict[CopyId, dict[str, Said]] = {}
        self._order: dict[ModelId | UpdateId, None] = {}
        self._receipts: set[str] = set()
        self._of_region: dict[tuple[str, str], list[UpdateId]] = {}
        self._of_round: dict[ModelId, list[UpdateId]] = {}
        self._entering: set[ModelId] = set()

    def read(self, seen: Seen) -> None:
        """Take in the next entry."""
        entry, declaration = seen.entry, seen.declaration
        if entry.kind == "receipt":
            self._receipts.add(entry.subject)
        elif entry.kind == "merge" and seen.index in self._merges:
            self._merge(self._merges[seen.index])
        elif entry.kind == "release":
            self._release(ModelId(lineage=entry.lineage, round=entry.round), entry.inputs[2:])
        elif declaration is not None and entry.kind in ("intent", "arrival"):
            said = Said(digest=entry.subject, approvals=declaration.verdict.approvals)
            if declaration.kind == "update":
                self._update(declaration, said)
            elif declaration.kind in ("candidate", "release", "snapshot"):
                if declaration.recipient == self._audit.owner:
                    self._received(declaration)
                self._copy(declaration, said)

    def finish(self) -> Descent:
        return Descent(
            models=self._models,
            updates={id_: self._counted(each) for id_, each in self._updates.items()},
            copies={id_: self._acknowledged(id_, said) for id_, said in self._copies.items()},
            order=tuple(self._order),
        )

    # ── updates ──

    def _update(self, declaration: Declaration, said: Said) -> None:
        """An update that the hub received, or that this region sent."""
        agreement = self._audit.agreements[declaration.agreement]
        lineage = agreement.lineage(declaration.lineage)
        id_ = UpdateId(
            lineage=declaration.lineage, round=declaration.round, region=declaration.sender
        )
        drafted = self._updates.get(id_)
        if drafted is None:
            states = tuple(item.digest for item in declaration.inputs if item.role == "state")
            drafted = self._enter(
                Update(
                    id=id_,
                    payload="" if declaration.payload is None else declaration.payload.digest,
                    jurisdiction=agreement.jurisdiction(declaration.sender),
                    tags=declaration.jurisdictions,
                    states=states,
                    statements=(),
                    base=self._named(agreement, lineage, declaration.round, declaration.parent),
                    state_of=self._state_of(lineage, declaration) if states else None,
                )
            )
        drafted.said[said.digest] = said

    def _state_of(self, lineage: Lineage, declaration: Declaration) -> UpdateId | None:
        """The update that left the state which a gateway gives its site for this one.

        As `Gateway.newest_state` picks it: the newest of the lineage, or of the one that it left,
        whose tags the lineage does not bar.
        """
        for of in (lineage.id, lineage.start.branch_of):
            for id_ in reversed(self._of_region.get((of, declaration.sender), [])):
                if not {*self._updates[id_].update.tags} & {*lineage.bars}:
                    return id_
        return None

    def _enter(self, update: Update) -> _Drafted:
        id_ = update.id
        self._updates[id_] = _Drafted(update)
        self._of_region.setdefault((id_.lineage, id_.region), []).append(id_)
        self._of_round.setdefault(ModelId(lineage=id_.lineage, round=id_.round), []).append(id_)
        self._order[id_] = None
        return self._updates[id_]

    def _counted(self, drafted: _Drafted) -> Update:
        """An update under the statements that were merged, else acknowledged, else all of them."""
        acknowledged = self._receipts & {*drafted.said}
        counted = drafted.counted or acknowledged or {*drafted.said}
        statements = tuple(said for said in drafted.said.values() if said.digest in counted)
        return replace(drafted.update, statements=statements)

    # ── models ──

    def _merge(self, merge: Merge) -> None:
        id_ = ModelId(lineage=merge.lineage, round=merge.round)
        lineage = merge.agreement.lineage(merge.lineage)
        updates = []
        for update, statement in zip(merge.updates, merge.statements, strict=True):
            each = UpdateId(lineage=merge.lineage, round=merge.round, region=update.sender)
            self._updates[each].counted.add(statement)
            updates.append(each)
        # A round that was merged again, of other updates, stands where the newer merge does.
        self._order.pop(id_, None)
        self._add(
            Model(
                id=id_,
                digest=merge.model,
                agreement=merge.agreement.digest,
                released=False,
                parent=self._named(merge.agreement, lineage, merge.round, merge.parent),
                parent_digest=merge.parent,
                updates=tuple(updates),
                tags=merge.jurisdictions,
            )
        )

    def _release(self, id_: ModelId, statements: Iterable[str]) -> None:
        if id_ not in self._models:
            return  # its merge is not disclosed
        self._models[id_] = replace(self._models[id_], released=True)
        # A statement may have been renewed since the merge, over the same payload.
        for update in self._models[id_].updates:
            drafted = self._updates[update]
            drafted.counted.update({*statements} & {*drafted.said})

    def _received(self, declaration: Declaration) -> None:
        """A region knows a model by what the hub said of it."""
        agreement = self._audit.agreements[declaration.agreement]
        lineage = agreement.lineage(declaration.lineage)
        if declaration.round == 0:
            self._start(agreement, lineage, tags=declaration.jurisdictions)
            return
        id_ = ModelId(lineage=declaration.lineage, round=declaration.round)
        known = self._models.get(id_)
        released = declaration.kind != "candidate"
        # A snapshot names no inputs: a later statement of the same model may.
        merged = [item.digest for item in declaration.inputs if item.role == "update"]
        if known is not None and (known.updates or not merged):
            self._models[id_] = replace(known, released=known.released or released)
            return
        parent = "" if declaration.kind == "snapshot" else declaration.parent
        self._add(
            Model(
                id=id_,
                digest=declaration.model,
                agreement=declaration.agreement,
                released=released,
                parent=self._named(agreement, lineage, id_.round, parent),
                parent_digest=parent,
                updates=tuple(self._by_payload(id_, payload) for payload in merged),
                tags=declaration.jurisdictions,
            )
        )

    def _by_payload(self, model: ModelId, payload: str) -> UpdateId:
        """Our own update, or another region's, of which we know nothing but the digest."""
        for id_ in self._of_round.get(model, []):
            if self._updates[id_].update.payload == payload:
                return id_
        id_ = UpdateId(lineage=model.lineage, round=model.round, region=payload)
        self._enter(
            Update(
                id=id_,
                payload=payload,
                jurisdiction="",
                tags=(),
                states=(),
                statements=(),
                base=None,
                state_of=None,
            )
        )
        return id_

    def _named(
        self, agreement: Agreement, lineage: Lineage, round_: int, digest: str
    ) -> ModelId | None:
        """The newest release of a lineage before a round, if it has this digest; else its start."""
        for number in range(round_ - 1, 0, -1):
            model = self._models.get(ModelId(lineage=lineage.id, round=number))
            if model is not None and model.released and model.digest == digest:
                return model.id
        if lineage.start.model == digest:
            return self._start(agreement, lineage)
        return None

    def _start(
        self, agreement: Agreement, lineage: Lineage, tags: tuple[str, ...] = ()
    ) -> ModelId | None:
        """Enter the start of a lineage, and of those that it branched off, once."""
        id_ = ModelId(lineage=lineage.id, round=0)
        if id_ in self._models:
            return id_
        if id_ in self._entering:
            return None  # lineages that each leave the other begin nowhere
        origin = None
        if lineage.start.branch_of:
            self._entering.add(id_)
            origin = self._left(agreement, lineage)
            self._entering.discard(id_)
        inherited = self._models[origin].tags if origin else ()
        self._models[id_] = Model(
            id=id_,
            digest=lineage.start.model,
            agreement="",
            released=True,
            parent=origin,
            parent_digest=lineage.start.model if lineage.start.branch_of else "",
            updates=(),
            tags=tuple(sorted({*tags, *inherited})),
        )
        self._order[id_] = None
        return id_

    def _left(self, agreement: Agreement, lineage: Lineage) -> ModelId | None:
        """The release that a branch left: the oldest with its digest, as the hub looks for it."""
        origin = agreement.lineage(lineage.start.branch_of)
        if origin.start.model == lineage.start.model:
            return self._start(agreement, origin)
        found = [
            id_
            for id_, model in self._models.items()
            if id_.lineage == origin.id and model.released and model.digest == lineage.start.model
        ]
        return min(found, default=None)

    def _add(self, model: Model) -> None:
        self._models[model.id] = model
        self._order[model.id] = None

    # ── copies ──

    def _copy(self, declaration: Declaration, said: Said) -> None:
        model = ModelId(lineage=declaration.lineage, round=declaration.round)
        if model.round == 0:
            agreement = self._audit.agreements[declaration.agreement]
            self._start(agreement, agreement.lineage(declaration.lineage))
        if model in self._models:
            copy = CopyId(model=model, region=declaration.recipient)
            self._copies.setdefault(copy, {})[said.digest] = said

    def _acknowledged(self, id_: CopyId, said: Mapping[str, Said]) -> tuple[Said, ...]:
        """What a region acknowledged, or everything that it could have fetched.

        What we received ourselves we acknowledged, or it would not be in our log.
        """
        counted = self._receipts & {*said}
        return tuple(each for each in said.values() if not counted or each.digest in counted)
