"""Which payloads a gateway may still have to send: no file of theirs is written over."""

from __future__ import annotations

import pytest
from tests.gateway.lying import Lying
from tests.places.world import WORLD, World

from ringfence.core.errors import BorderDownError
from ringfence.core.wire import OfferReply


def test_a_payload_may_have_to_be_sent_until_its_receipt_is_here(world: World) -> None:
    # given an update that was encoded while the border was down
    de = world.place("de")
    with pytest.raises(BorderDownError):
        de.turn(border=Lying(de.line, offer=_down))
    stored = de.gateway.journal.outbound(WORLD, 1)
    assert stored is not None
    assert stored.encoding is not None
    assert de.gateway.journal.unsent() == {stored.encoding.payload.digest}
    # when the border is back
    de.turn()
    # then nothing is left to be sent
    assert de.gateway.journal.unsent() == frozenset()


def _down(envelope: bytes) -> OfferReply:
    raise BorderDownError("the line is down")
