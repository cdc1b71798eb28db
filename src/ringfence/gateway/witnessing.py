"""Watches the hub's log for this region: all its checkpoints must be those of one growing log."""

from __future__ import annotations

from ringfence.core.errors import FormatError
from ringfence.core.wire import LineageView
from ringfence.gateway.gateway import Border, Gateway
from ringfence.ledger.checkpoints import Checkpoint, open_checkpoint


def watch(
    gateway: Gateway, view: LineageView, border: Border, *, asked_s: float | None = None
) -> None:
    """Check the checkpoint that came with a view, and cosign it unless our line is under it.

    `asked_s` is the timekeeper's steady clock when the view was asked for.  Raises: as `vouch`.
    """
    vouch(gateway, view.checkpoint, border, asked_s=asked_s)


def vouch(gateway: Gateway, note: str, border: Border, *, asked_s: float | None = None) -> None:
    """Hold one of the hub's checkpoints against the last one seen; cosign it when it is as new.

    When the others cosigned it is held against our clock (PLAT-CLOCK).

    An older one is no fault by itself: two lineages ask at the same time, and a proof may stand
    under a checkpoint that was shown before.  It must be consistent, and is not cosigned.
    Raises: ForkError, naming both checkpoints, when the hub's log cannot be one log: the run stops.
    FormatError, TrustError or LogError when the note is not one of that log; BorderDownError.
    """
    with gateway.watching:
        shown = open_checkpoint(note, log_key=gateway.hub_log_key, witnesses=gateway.witness_keys)
        gateway.region.timekeeper.hear_checkpoint(shown, asked_s=asked_s)
        last = gateway.witness.last()
        if last is not None and shown.checkpoint.size < last.size:
            proof = _consistency(shown.checkpoint, last, border)
            gateway.witness.recall(note, consistency=proof)
            return
        if shown.checkpoint == last and gateway.witness.name in shown.cosigned_by:
            return
        # A line that the hub does not show may have been lost on its way: it is given again.
        proof = [] if last is None else _consistency(last, shown.checkpoint, border)
        seen = gateway.witness.see(note, consistency=proof)
        border.cosign(seen.cosignature)


def _consistency(old: Checkpoint, new: Checkpoint, border: Border) -> list[bytes]:
    """The hub's proof that `new` goes on from `old`; none is needed from 0 or to the same size."""
    if old.size in (0, new.size):
        return []
    hashes = border.consistency(old=old.size, new=new.size).hashes
    try:
        return [bytes.fromhex(each) for each in hashes]
    except ValueError as error:
        raise FormatError("consistency proof: expected hashes in hexadecimal") from error
