"""The hub's one thread that moves rounds on; everything else only brings facts."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ringfence.coordinator.hub import Hub
from ringfence.coordinator.intake import recheck_spool
from ringfence.coordinator.rounds import advance, sign_releases, start_lineage
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.core.ids import Digest, LineageId
from ringfence.core.tensorfile import open_tensorfile
from ringfence.crossing.signatures import check_signatures, missing_signatures, sign_agreement

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
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, if it was started."""
        if self._thread.ident is not None:
            self._thread.join()

    def raise_fault(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            _prepare(self._hub)
            kept = False
            while not self._stop.is_set():
                seen = self._hub.changes.total()
                if not kept and (signatures := _all_signatures(self._hub)):
                    self._keep_signatures(signatures)
                    kept = True
                if not _advance_all(self._hub):
                    self._hub.changes.wait(seen, _TICK_S)
        except Exception as fault:  # noqa: BLE001 (the thread's outermost loop; raised in main)
            self._fault = fault
            # A hub that cannot move rounds must not look alive.
            os.kill(os.getpid(), signal.SIGTERM)


def adopt_model(hub: Hub, path: Path) -> Digest:
    """Copy an initial model file into the hub's models under its digest.

    Raises: LayoutError when it does not hold exactly the agreed federated and frozen tensors.
    """
    with open_tensorfile(path) as model:
        model.check_layout(hub.region.agreement.model_layout)
    scratch = hub.spool.scratch("initial")
    shutil.copyfile(path, scratch)
    hasher = ChunkHasher()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with scratch.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    digest = hasher.finish().digest
    hub.spool.keep_model(scratch, digest)
    return digest


def _prepare(hub: Hub) -> None:
    """After every start: our own signature, lineages that begin, and payloads that were lost."""
    agreement = hub.region.agreement
    hub.journal.keep_signature(
        agreement=agreement.digest,
        region=hub.region.id,
        envelope=sign_agreement(agreement, hub.region.id, hub.region.statement_signer),
    )
    for terms in agreement.terms.lineages:
        start_lineage(hub, terms)
        round_ = hub.journal.current_round(terms.id)
        if round_ is not None and round_.state in ("open", "collecting"):
            recheck_spool(hub, round_)
        hub.changes.announce(LineageId(terms.id))


def _advance_all(hub: Hub) -> bool:
    """One step on every lineage; nothing before every region has signed the agreement."""
    agreement = hub.region.agreement
    if not _all_signatures(hub):
        return False
    moved = [advance(hub, LineageId(terms.id)) for terms in agreement.terms.lineages]
    for terms in agreement.terms.lineages:
        sign_releases(hub, LineageId(terms.id))
    return any(moved)


def _all_signatures(hub: Hub) -> Mapping[str, bytes]:
    """Every region's signature of the agreement, checked; none while one is missing."""
    agreement = hub.region.agreement
    signatures = hub.journal.signatures(agreement.digest)
    if missing_signatures(agreement, signatures):
        return {}
    check_signatures(agreement, signatures)
    return signatures
