"""What a gateway works with, put together by `wiring`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ringfence.core.catalogue import Catalogue
from ringfence.core.errors import Refused, StateError
from ringfence.core.ids import Digest, LineageId
from ringfence.core.site_wire import (
    Evaluate,
    Evaluated,
    Hello,
    SiteGone,
    SubmittedUpdate,
    Train,
)
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.crossing.region import Region
from ringfence.crossing.spool import Spool
from ringfence.gateway.journal import Journal
from ringfence.gateway.models import Models
from ringfence.ledger.keys import NoteKey
from ringfence.ledger.witness import Witness


class Border(Protocol):
    """The line to the hub.

    Every call blocks.  What the hub refuses is raised as `Refused`, what it cannot trust or read
    as `TrustError` or `FormatError`; `BorderDownError` says that nothing is known and the call may
    be made again.
    """

    def agreement(self) -> AgreementView: ...

    def sign_agreement(self, envelope: bytes) -> AgreementView: ...

    def lineage(self, lineage: LineageId, *, seen: int, wait_s: int) -> LineageView: ...

    def snapshot(self, lineage: LineageId) -> bytes: ...

    def offer(self, envelope: bytes) -> OfferReply: ...

    def upload(self, statement: Digest, path: Path, *, chunk: int) -> bytes: ...

    def download(
        self,
        digest: Digest,
        *,
        chunk: int,
        size_bytes: int,
        sink: Callable[[int, memoryview], None],
    ) -> None: ...

    def statement(self, digest: Digest) -> bytes: ...

    def accept(self, envelope: bytes) -> None: ...

    def disclosure(self, digest: Digest) -> bytes: ...

    def consistency(self, *, old: int, new: int) -> LogProof: ...

    def cosign(self, line: str) -> None: ...


class Site(Protocol):
    """The open line to a training script; what a site does raises `Refused` or `FormatError`."""

    @property
    def hello(self) -> Hello: ...

    def train(
        self, order: Train, *, model_fd: int, update_bytes: int
    ) -> SubmittedUpdate | SiteGone: ...

    def acknowledge(self) -> None: ...

    def reject(self, refused: Refused) -> None: ...

    def evaluate(self, order: Evaluate, *, model_fd: int) -> Evaluated | SiteGone: ...


RefusalCause = tuple[str, int, str, str, tuple[str, ...]]
"""Lineage, round, stage, reason and rules of a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One region's gateway: what it brings to a crossing, what it remembers, whom it watches.

    `borrow_site` lends the region's site to one lineage at a time and blocks until one is there;
    `watching` lets one lineage at a time show the witness a checkpoint; `refusals` are the causes
    that this process has recorded, `reminded` the days (since the epoch) on which it has said which
    papers end soon.
    """

    region: Region
    journal: Journal
    models: Models
    spool: Spool
    catalogue: Catalogue
    catalogue_digest: str
    witness: Witness
    borrow_site: Callable[[], AbstractContextManager[Site]]
    random_bytes: Callable[[int], bytes]
    stop: threading.Event = field(default_factory=threading.Event)
    watching: threading.Lock = field(default_factory=threading.Lock)
    refusals: set[RefusalCause] = field(default_factory=set)
    reminded: set[int] = field(default_factory=set)

    @property
    def hub_log_key(self) -> NoteKey:
        """The key that the agreement names for the hub's log."""
        return NoteKey.from_text(self.region.agreement.region(self.region.agreement.hub).log_key)

    @property
    def witness_keys(self) -> tuple[NoteKey, ...]:
        """The witnesses of the hub's log: every other region."""
        agreement = self.region.agreement
        return tuple(
            NoteKey.from_text(agreement.region(name).witness_key)
            for name in agreement.regions()
            if name != agreement.hub
        )

    def record_refusal(self, refused: Refused, *, lineage: str = "", round_: int = 0) -> None:
        """Write a refusal into our log, once for each cause and round.

        What is asked again and refused again is the same outcome; only a new process says it anew.
        """
        cause = (lineage, round_, refused.stage, refused.reason, refused.rules)
        if cause in self.refusals:
            return
        self.region.record_refusal(
            refused, counterparty=self.region.agreement.hub, lineage=lineage, round_=round_
        )
        self.refusals.add(cause)

    def open_model(self, digest: str) -> int:
        """A model that `models` says is here, open for reading only; the caller closes it.

        Raises: StateError when its file is gone or damaged.
        """
        path = self.spool.model(digest)
        if not self.spool.holds_model(digest):
            raise StateError(
                f"{path}: the journal holds this model, but its file is gone or damaged; restore it"
            )
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def newest_state(self, lineage: str) -> str:
        """Digest of the regional state to train `lineage` from, or '' when there is none.

        A branch starts from the newest state of the lineage it left whose closure it may hold.
        """
        terms = self.region.agreement.lineage(lineage)
        bars = frozenset(terms.bars)
        own = self.journal.newest_state(lineage, bars=bars)
        if own or not terms.start.branch_of:
            return own
        return self.journal.newest_state(terms.start.branch_of, bars=bars)
