"""What a revoked paper reaches: every statement that relied on it, and all that came of those.

A paper that was revoked stops the next crossing by itself.  This is about what crossed before: an
item is affected when a statement that it was merged or sent under relied on a paper that is revoked
now, or when anything that it descends from is.  Nothing is marked anywhere: it follows from the log
and from the revocations that the region has registered, each time it is asked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ringfence.crossing.descent import CopyId, Descent, ItemId, ModelId, Said, UpdateId


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """How a revoked paper reached an item.

    `statement` is the one that relied on `approval`; `path` goes from what was said there to the
    item, both included.
    """

    approval: str
    statement: str
    path: tuple[ItemId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """From where a paper came to an item: another item, or a statement of the item itself.

    `steps` counts the items on the way.
    """

    statement: str
    source: ItemId | None
    steps: int


class Affected:
    """The items of a log that revoked papers have reached."""

    def __init__(self, descent: Descent, revoked: Collection[str]) -> None:
        self._descent = descent
        self._revoked = frozenset(revoked)
        self._reached: dict[ItemId, dict[str, _Reached]] = {}
        self._copies: dict[ModelId, list[CopyId]] = {}
        if not self._revoked:
            return
        # Each item comes behind what it descends from, so that one walk is enough.
        for item in descent.order:
            for parent in descent.parents(item):
                if isinstance(parent, CopyId) and parent not in self._reached:
                    self._reach(parent)
            self._reach(item)
        for copy in sorted(descent.copies):
            if copy not in self._reached:
                self._reach(copy)
            if self._reached[copy]:
                self._copies.setdefault(copy.model, []).append(copy)

    def papers(self, item: ItemId) -> tuple[str, ...]:
        """Revoked papers that have reached `item`, sorted; none when it is not affected."""
        return tuple(sorted(self._reached.get(item, ())))

    def traces(self, item: ItemId) -> tuple[Trace, ...]:
        """How each of them reached it, the shortest way there is."""
        return tuple(self._trace(item, approval) for approval in self.papers(item))

    def release_papers(self, model: ModelId) -> tuple[str, ...]:
        """Revoked papers that have reached a release, or any statement of it."""
        items: list[ItemId] = [model, *self._copies.get(model, ())]
        return tuple(sorted({approval for item in items for approval in self.papers(item)}))

    def release_traces(self, model: ModelId) -> tuple[Trace, ...]:
        """How each of them did; a paper that reached the model itself has its copies from there."""
        own = self.papers(model)
        sent = [trace for copy in self._copies.get(model, ()) for trace in self.traces(copy)]
        return (*self.traces(model), *(trace for trace in sent if trace.approval not in own))

    def count(self) -> int:
        """How many releases are affected, themselves or in a statement of them."""
        return sum(bool(self.release_papers(model.id)) for model in self._descent.releases())

    def deployed_by(self, model: ModelId, region: str) -> tuple[Trace, ...]:
        """How revoked papers reached what `region` would deploy: its copy, or the model itself."""
        copy = CopyId(model=model, region=region)
        return self.traces(copy if copy in self._descent.copies else model)

    def _reach(self, item: ItemId) -> None:
        """Take the shortest way of each paper that has reached what the item comes of."""
        found: dict[str, _Reached] = {}
        for parent in self._descent.parents(item):
            for approval, before in self._reached.get(parent, {}).items():
                known = found.get(approval)
                if known is None or before.steps + 1 < known.steps:
                    found[approval] = _Reached(
                        statement=before.statement, source=parent, steps=before.steps + 1
                    )
        for said in self._statements(item):
            for approval in self._revoked.intersection(said.approvals):
                found[approval] = _Reached(statement=said.digest, source=None, steps=0)
        self._reached[item] = found

    def _statements(self, item: ItemId) -> tuple[Said, ...]:
        match item:
            case UpdateId():
                return self._descent.updates[item].statements
            case CopyId():
                return self._descent.copies[item]
            case ModelId():
                return ()

    def _trace(self, item: ItemId, approval: str) -> Trace:
        path = [item]
        reached = self._reached[item][approval]
        while reached.source is not None:
            path.append(reached.source)
            reached = self._reached[reached.source][approval]
        return Trace(approval=approval, statement=reached.statement, path=tuple(reversed(path)))
