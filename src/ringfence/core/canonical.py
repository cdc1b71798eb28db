"""One way to turn a value into bytes and back: JSON with sorted keys, no spaces, UTF-8."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ringfence.core.errors import FormatError

T = TypeVar("T")


def to_bytes(value: object) -> bytes:
    """Encode a msgspec Struct (or plain JSON value) so that equal values give equal bytes."""
    return msgspec.json.encode(value, order="sorted")


def from_bytes(data: bytes, type_: type[T], *, what: str, limit_bytes: int) -> T:
    """Parse `data` strictly as `type_`.

    Raises `FormatError` when `data` is longer than `limit_bytes`, is not JSON, has an unknown
    field, or a field of the wrong type.  The length is looked at first.
    """
    if len(data) > limit_bytes:
        raise FormatError(f"{what}: expected at most {limit_bytes} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=type_, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{what}: {error}") from error
