"""How errors cross the border: to an HTTP status and a body, and back into the same error."""

from __future__ import annotations

from ringfence.core import canonical
from ringfence.core.errors import (
    BorderDownError,
    Error,
    FormatError,
    LayoutError,
    Refused,
    TrustError,
)
from ringfence.core.wire import CONTROL_LIMIT_BYTES, Refusal
from ringfence.net.http_limits import ERROR_LIMIT_CHARS

OK = 200
NO_CONTENT = 204
BAD_REQUEST = 400
FORBIDDEN = 403
NOT_FOUND = 404
TIMED_OUT = 408
CONFLICT = 409
LENGTH_REQUIRED = 411
TOO_LONG = 413
INTERNAL = 500
UNAVAILABLE = 503

_PASSING = (TIMED_OUT, INTERNAL, UNAVAILABLE)


class TransferCutError(BorderDownError):
    """A payload stopped on its way; `chunks` whole chunks of it had been passed on before.

    For a download the sink has taken them.  For an upload they were handed to the network; only
    the hub knows which arrived, so offer the statement again and go on from its answer.
    """

    def __init__(self, message: str, *, chunks: int) -> None:
        super().__init__(message)
        self.chunks = chunks


class RequestError(FormatError):
    """A request that HTTP has a status of its own for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def to_status(error: Exception) -> tuple[int, bytes]:
    """Status and body for `error`; says nothing about errors that are the hub's own business."""
    match error:
        case Refused():
            refusal = Refusal(
                stage=error.stage, reason=error.reason, detail=error.detail, rules=error.rules
            )
            return CONFLICT, canonical.to_bytes(refusal)
        case RequestError():
            return error.status, _text(error)
        case FormatError() | LayoutError():
            return BAD_REQUEST, _text(error)
        case TrustError():
            return FORBIDDEN, _text(error)
        case BorderDownError():
            return UNAVAILABLE, b"try again later"
        case _:
            return INTERNAL, b"internal error; the hub's own log has the cause"


def from_status(status: int, body: bytes, *, request: str) -> Error:
    """The error that the hub answered `request` with."""
    if status == CONFLICT:
        return _refused(body, request=request)
    detail = printable(body)
    if status == FORBIDDEN:
        return TrustError(f"{request}: the hub does not trust this: {detail}")
    if status in _PASSING:
        return BorderDownError(f"{request}: the hub answered {status} ({detail}); try again later")
    return FormatError(f"{request}: the hub answered {status}: {detail}")


def printable(data: bytes) -> str:
    """Text from the other side, made safe to put into a message."""
    text = data[: 4 * ERROR_LIMIT_CHARS].decode("utf-8", "replace")[:ERROR_LIMIT_CHARS]
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _text(error: Error) -> bytes:
    return str(error)[:ERROR_LIMIT_CHARS].encode("utf-8", "replace")


def _refused(body: bytes, *, request: str) -> Error:
    try:
        refusal = canonical.from_bytes(
            body, Refusal, what=f"refusal of {request}", limit_bytes=CONTROL_LIMIT_BYTES
        )
    except FormatError as error:
        return error
    return Refused(
        stage=refusal.stage, reason=refusal.reason, detail=refusal.detail, rules=refusal.rules
    )
