"""Watches the hub's log for this region: every checkpoint must extend the one seen before."""

from __future__ import annotations

from ringfence.core.wire import LineageView
from ringfence.gateway.gateway import Border, Gateway
from ringfence.ledger.checkpoints import Checkpoint
from ringfence.ledger.notes import Note


def watch(gateway: Gateway, view: LineageView, border: Border) -> None:
    """Check the checkpoint that came with a view, and cosign it when it is new.

    Raises: ForkError, naming both checkpoints, when the hub's log cannot be one log; LogError when
    it went back.  The run stops on either.
    """
    with gateway.watching:
        last = gateway.witness.last()
        shown = Checkpoint.from_text(Note.from_text(view.checkpoint).text)
        if last is not None and (shown.size, shown.root) == (last.size, last.root):
            return
        proof: list[bytes] = []
        if last is not None and 0 < last.size < shown.size:
            hashes = border.consistency(old=last.size, new=shown.size).hashes
            proof = [bytes.fromhex(each) for each in hashes]
        seen = gateway.witness.see(view.checkpoint, consistency=proof)
        border.cosign(seen.cosignature)
