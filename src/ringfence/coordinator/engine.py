"""The hub's one thread that moves rounds on; everything else only brings facts.

A second thread signs what was released: nobody in the federation waits for that signature, and the
SHA-256 of a large model takes as long as a merge.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.intake import recheck_spool
from ringfence.coordinator.rounds import (
    advance,
    hold_failed,
    hold_succeeded,
    start_lineage,
    unsigned_releases,
)
from ringfence.core.errors import (
    ConfigError,
    FormatError,
    LayoutError,
    LogError,
    NotFiniteError,
    Refused,
    StateError,
)
from ringfence.core.ids import Digest, LineageId
from ringfence.core.tensorfile import open_tensorfile
from ringfence.crossing.signatures import check_signatures, missing_signatures, sign_agreement
from ringfence.crossing.spool import hash_file

_log = logging.getLogger(__name__)

_OWN_DISK = (StateError, LogError, OSError, SQLAlchemyError, MemoryError)
"""What stops the process: to go on would build on what cannot be relied on."""

_TICK_S = 1.0
"""How often deadlines are looked at when nothing else happens."""


class Engine:
    """Runs `advance` on every lineage whenever something has changed.

    `keep_signatures` is given every region's signature of the agreement before the first step.
    """

    def __init__(
        self,
        hub: Hub,
        stop: threading.Event,
        *,
        keep_signatures: Callable[[Mapping[str, bytes]], None],
    ) -> None:
        self._hub = hub
        self._stop = stop
        self._keep_signatures = keep_signatures
        self._fault: Exception | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("rounds", self._move_rounds), ("signing", self._sign_releases))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until the threads that were started have ended."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def raise_fault(self) -> None:
        """Raise what ended a thread first, if anything did."""
        if self._fault is not None:
            raise self._fault

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 (the thread's outermost loop; raised in main)
            self._fault = self._fault or fault
            # A hub that cannot move rounds must not look alive.
            os.kill(os.getpid(), signal.SIGTERM)

    def _move_rounds(self) -> None:
        _prepare(self._hub)
        kept = False
        while not self._stop.is_set():
            seen = self._hub.changes.total()
            if not kept and (signatures := _all_signatures(self._hub)):
                self._keep_signatures(signatures)
                kept = True
            if not kept or not _advance_all(self._hub):
                self._hub.changes.wait(seen, _TICK_S)

    def _sign_releases(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_TICK_S)
            # Once more when the process is to end: its last release is signed as well.
            for terms in self._hub.region.agreement.terms.lineages:
                _sign(self._hub, LineageId(terms.id))


def adopt_model(hub: Hub, path: Path) -> Digest:
    """Copy an initial model file into the hub's models under its digest.

    Raises: ConfigError when it does not hold exactly the agreed federated and frozen tensors, in
    the form in which models cross, or a number in it is none.
    """
    model = hub.region.agreement.model_layout
    scratch = hub.spool.scratch("initial")
    try:
        with open_tensorfile(path) as file:
            file.check_layout(model)
        shutil.copyfile(path, scratch)
        with PayloadFile(PayloadFormat(codec="float32", layout=model), scratch) as content:
            content.check_values()
    except (FormatError, LayoutError, NotFiniteError) as error:
        raise ConfigError(f"{path}: is no model of this agreement: {error}") from error
    digest = hash_file(scratch).digest
    hub.spool.keep_model(scratch, digest)
    return digest


def _prepare(hub: Hub) -> None:
    """After every start: our own signature, lineages that begin, and payloads that were lost."""
    agreement = hub.region.agreement
    hub.signatures.keep(
        agreement=agreement.digest,
        region=hub.region.id,
        envelope=sign_agreement(agreement, hub.region.id, hub.region.statement_signer),
    )
    for terms in agreement.terms.lineages:
        start_lineage(hub, terms)
        hold_succeeded(hub, LineageId(terms.id))
        round_ = hub.journal.current_round(terms.id)
        if round_ is not None and round_.state in ("open", "collecting"):
            recheck_spool(hub, round_)
        hub.changes.announce(LineageId(terms.id))
    newest = hub.journal.newest_record()
    if newest is not None:
        hub.publication.resume(covering=newest)


def _advance_all(hub: Hub) -> bool:
    """One step on every lineage."""
    lineages = [LineageId(terms.id) for terms in hub.region.agreement.terms.lineages]
    moved = [_step(hub, lineage) for lineage in lineages]
    hub.refusals.close_windows(hub.region)
    return any(moved)


def _step(hub: Hub, lineage: LineageId) -> bool:
    """One step of one lineage; what fails in it holds its round and leaves the others alone.

    Raises: what says that our own disk, or what is on it, cannot be relied on.
    """
    try:
        return advance(hub, lineage)
    except _OWN_DISK:
        raise
    except ConfigError as fault:
        # Our own papers or facts: somebody is writing them, or must mend them.  Nothing is lost.
        return _note(hub, lineage, _refuse("own-papers", fault))
    except Exception as fault:  # noqa: BLE001 (a region's bytes must not stop the hub; recorded)
        _log.exception("%s: a step failed; its round is held", lineage)
        return hold_failed(hub, lineage, fault) or _note(
            hub, lineage, _refuse("step-failed", fault)
        )


def _sign(hub: Hub, lineage: LineageId) -> None:
    """Sign what was released; a release is valid without, so that a failure is only noted."""
    try:
        for model in unsigned_releases(hub, lineage):
            hub.sign_model(model)
    except _OWN_DISK:
        raise
    except Exception as fault:  # noqa: BLE001 (the signing library's own errors; recorded)
        _note(hub, lineage, _refuse("not-signed", fault))


def _note(hub: Hub, lineage: LineageId, refused: Refused) -> bool:
    """Record and say a trouble once an hour; returns False, for nothing has moved."""
    if hub.refusals.record(hub.region, refused, counterparty=hub.region.id, lineage=lineage):
        _log.error("%s: %s", lineage, refused)
    return False


def _all_signatures(hub: Hub) -> Mapping[str, bytes]:
    """Every region's signature of the agreement, checked; none while one is missing."""
    agreement = hub.region.agreement
    signatures = hub.signatures.of(agreement.digest)
    if missing_signatures(agreement, signatures):
        return {}
    check_signatures(agreement, signatures)
    return signatures


def _refuse(reason: str, fault: Exception) -> Refused:
    return Refused(stage="round", reason=reason, detail=f"{type(fault).__name__}: {fault}")
