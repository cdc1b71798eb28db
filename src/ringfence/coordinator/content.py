"""Looks inside an update that has arrived whole: a signature does not make it as agreed."""

from __future__ import annotations

from pathlib import Path

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.core.agreement import Agreement
from ringfence.core.errors import Refused
from ringfence.core.terms import Codec
from ringfence.learn.clip import norm_of

# How much longer than the clip bound an honest update may come out of its payload.
_ROOM: dict[Codec, float] = {
    # The roundings of the factor's products, and of measuring twice.
    "float32": 1 + 2**-16,
    # Stochastic rounding lengthens every value but the largest, m, of a block of 256 by up to one
    # step s = m/127.  With w m the norm of the other 255, the squared norm grows by at most
    # (2 sqrt(255)/127 w + 255/127^2) / (1 + w^2) <= 0.134, so the norm by less than 1.065.
    "int8": 1.07,
}


def check_update(agreement: Agreement, path: Path) -> None:
    """Read an update's payload once, through a buffer of fixed size.

    Raises: FormatError or LayoutError when it is not a payload of the agreed tensors;
    NotFiniteError, naming the tensor; Refused when it is longer than the agreed clip bound.
    """
    codec = agreement.terms.codecs.updates
    form = PayloadFormat(codec=codec, layout=agreement.update_layout)
    with PayloadFile(form, path) as payload:
        norm = norm_of(payload.read_segment, form.layout)
    if norm > agreement.terms.clip_l2 * _ROOM[codec]:
        raise Refused(
            stage="intake",
            reason="clip-bound",
            detail=f"expected an update of an L2 norm of at most {agreement.terms.clip_l2:g}, got "
            "a longer one; the sender's gateway should have clipped it",
        )
