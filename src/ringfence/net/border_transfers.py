"""Payloads through the hub: one chunk in the network, at most one more with the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor

from aiohttp import StreamReader, web

from ringfence.core.chunks import CHUNK_BYTES, chunk_count
from ringfence.core.errors import StateError
from ringfence.crossing.spool import OpenPayload
from ringfence.net.border_errors import TIMED_OUT, RequestError
from ringfence.net.border_service import Upload

READ_BYTES = 256 * 1024
"""Asked of aiohttp at once: it buffers twice as much as the largest piece ever asked for."""

WRITE_BYTES = 256 * 1024
"""Handed to TLS at once, so that what is encrypted ahead of the network stays small."""


class Buffers:
    """Chunk-sized buffers for one event loop, used again: new memory costs more than filling it.

    There are as many as were borrowed at once so far, two for each transfer.
    """

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    @contextlib.contextmanager
    def borrow(self, count: int) -> Iterator[list[memoryview]]:
        """Lend `count` buffers, whose contents are anybody's."""
        taken = [self._free.pop() if self._free else _new_buffer() for _ in range(count)]
        try:
            yield taken
        finally:
            self._free.extend(taken)


async def receive_payload(
    content: StreamReader,
    upload: Upload,
    *,
    first_chunk: int,
    executor: Executor,
    buffers: Buffers,
    chunk_timeout_s: float,
) -> bytes:
    """Pass `upload.size_bytes` of `content` on in chunks; returns the receipt's envelope.

    While the executor verifies and stores one chunk, the next one arrives in the other of two
    buffers.  Raises: RequestError when a chunk takes longer than `chunk_timeout_s`.
    """
    loop = asyncio.get_running_loop()
    left = upload.size_bytes
    index = first_chunk
    with buffers.borrow(min(2, chunk_count(left))) as pair:
        storing: asyncio.Future[None] | None = None
        try:
            while left:
                chunk = pair[index % len(pair)][: min(CHUNK_BYTES, left)]
                await _fill(content, chunk, timeout_s=chunk_timeout_s)
                if storing is not None:
                    await storing
                storing = loop.run_in_executor(executor, upload.write_chunk, index, chunk)
                left -= len(chunk)
                index += 1
            if storing is not None:
                await storing
        except BaseException:
            await _settled(storing)
            await _settled(loop.run_in_executor(executor, upload.abort))
            raise
    return await loop.run_in_executor(executor, upload.finish)


async def send_payload(
    response: web.StreamResponse,
    payload: OpenPayload,
    *,
    offset: int,
    executor: Executor,
    buffers: Buffers,
    chunk_timeout_s: float,
) -> None:
    """Write the file from `offset` to its end; the next chunk is read while this one leaves.

    Raises: ConnectionResetError when the peer takes longer than `chunk_timeout_s` for one chunk.
    """
    loop = asyncio.get_running_loop()
    left = payload.size_bytes - offset
    turn = 0
    with buffers.borrow(min(2, chunk_count(left))) as pair:

        def read_ahead() -> asyncio.Future[None] | None:
            if not left:
                return None
            chunk = pair[turn % len(pair)][: min(CHUNK_BYTES, left)]
            return loop.run_in_executor(executor, _read, payload.fd, chunk, offset)

        reading = read_ahead()
        try:
            while reading is not None:
                await reading
                chunk = pair[turn % len(pair)][: min(CHUNK_BYTES, left)]
                left -= len(chunk)
                offset += len(chunk)
                turn += 1
                reading = read_ahead()
                async with asyncio.timeout(chunk_timeout_s):
                    for start in range(0, len(chunk), WRITE_BYTES):
                        await response.write(chunk[start : start + WRITE_BYTES])
        except TimeoutError as error:
            raise ConnectionResetError(f"the peer took no {CHUNK_BYTES} bytes in time") from error
        finally:
            await _settled(reading)


def _new_buffer() -> memoryview:
    return memoryview(bytearray(CHUNK_BYTES))


async def _fill(content: StreamReader, chunk: memoryview, *, timeout_s: float) -> None:
    filled = 0
    try:
        async with asyncio.timeout(timeout_s):
            while filled < len(chunk):
                piece = await content.read(min(len(chunk) - filled, READ_BYTES))
                if not piece:
                    raise ConnectionResetError("the body ended early")
                chunk[filled : filled + len(piece)] = piece
                filled += len(piece)
    except TimeoutError as error:
        raise RequestError(
            TIMED_OUT, f"expected {len(chunk)} bytes within {timeout_s} s, got {filled}; send again"
        ) from error


def _read(fd: int, chunk: memoryview, offset: int) -> None:
    filled = 0
    while filled < len(chunk):
        got = os.preadv(fd, [chunk[filled:]], offset + filled)
        if not got:
            raise StateError(f"a stored payload ended at byte {offset + filled} of what was said")
        filled += got


async def _settled(future: asyncio.Future[None] | None) -> None:
    """Wait until a thread has let go of its buffer, whatever came of it."""
    if future is not None:
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()
