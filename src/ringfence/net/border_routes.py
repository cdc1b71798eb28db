"""The closed set of requests that the hub answers, each a few lines between HTTP and the service.

A request target must match one of the patterns below to the letter; everything else is 404.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from aiohttp import web

from ringfence.core import canonical, ids
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import FormatError
from ringfence.core.ids import RegionId
from ringfence.core.wire import CONTROL_LIMIT_BYTES, STATEMENT_LIMIT_BYTES
from ringfence.net.border_changes import Changes
from ringfence.net.border_connection import connection_of
from ringfence.net.border_errors import (
    BAD_REQUEST,
    INTERNAL,
    LENGTH_REQUIRED,
    NO_CONTENT,
    NOT_FOUND,
    TIMED_OUT,
    TOO_LONG,
    RequestError,
    to_status,
)
from ringfence.net.border_service import HubService, Upload
from ringfence.net.border_transfers import Buffers, receive_payload, send_payload
from ringfence.net.http_limits import COSIGNATURE_LIMIT_BYTES, WAIT_LIMIT_S, ServerLimits

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: who asks, and the words of its target."""

    request: web.BaseRequest
    region: RegionId
    words: dict[str, str]

    def number(self, name: str) -> int:
        """A word that the pattern lets be digits only."""
        return int(self.words[name])


class HubRoutes:
    """Answers requests out of `service`, whose every method runs in a thread."""

    def __init__(self, service: HubService, *, limits: ServerLimits, changes: Changes) -> None:
        self._service = service
        self._limits = limits
        self._changes = changes
        self._executor = ThreadPoolExecutor(limits.threads, thread_name_prefix="border")
        self._buffers = Buffers()

    def close(self) -> None:
        """Wait for the threads; call after the last request."""
        self._executor.shutdown()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every error becomes a response here."""
        connection = connection_of(request)
        connection.cut_if_expired()
        try:
            call, answer = _route(request, connection.region)
            response = await answer(self, call)
        except Exception as error:
            # The outermost loop of the border: whatever it is, it becomes an answer.
            if connection.lost.done():
                raise ConnectionResetError("the caller is gone") from error
            response = await self._failed(request, error)
        if connection.is_old or not request.content.is_eof():
            response.force_close()
        return response

    async def _failed(self, request: web.BaseRequest, error: Exception) -> web.Response:
        status, body = to_status(error)
        region = connection_of(request).region
        if isinstance(error, RequestError):
            await self._run(self._service.refuse_request, region, str(error))
        if status == INTERNAL:
            _log.error("%s: %s %s failed", region, request.method, request.path, exc_info=error)
        else:
            _log.info("%s: %s %s: %d", region, request.method, request.path, status)
        return web.Response(status=status, body=body)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        job = partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)

    # ── Agreement ──

    async def agreement(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        return _json(await self._run(self._service.agreement_view, call.region))

    async def sign_agreement(self, call: Call) -> web.StreamResponse:
        envelope = await self._body(call, limit_bytes=CONTROL_LIMIT_BYTES)
        return _json(await self._run(self._service.accept_signature, call.region, envelope))

    # ── Lineages ──

    async def lineage(self, call: Call) -> web.StreamResponse:
        """Long poll: at once when the version differs, else at the next change or the end."""
        _expect_no_body(call.request)
        lineage = ids.lineage_id(call.words["lineage"])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(call.number("wait_s"), WAIT_LIMIT_S)
        lost = connection_of(call.request).lost
        while True:
            # The order matters: a change between `view` and the wait is seen by `change`.
            change = self._changes.after_now(lineage)
            view = await self._run(self._service.view, call.region, lineage)
            left_s = deadline - loop.time()
            if view.version != call.number("seen") or left_s <= 0 or self._changes.closed:
                return _json(view)
            await asyncio.wait({change, lost}, timeout=left_s, return_when="FIRST_COMPLETED")
            if lost.done():
                raise ConnectionResetError("the caller is gone")

    async def snapshot(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        lineage = ids.lineage_id(call.words["lineage"])
        return _bytes(await self._run(self._service.snapshot, call.region, lineage))

    # ── Statements and payloads ──

    async def offer(self, call: Call) -> web.StreamResponse:
        envelope = await self._body(call, limit_bytes=STATEMENT_LIMIT_BYTES)
        return _json(await self._run(self._service.offer, call.region, envelope))

    async def statement(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        digest = ids.digest(call.words["digest"])
        return _bytes(await self._run(self._service.statement, call.region, digest))

    async def upload(self, call: Call) -> web.StreamResponse:
        size_bytes = _body_size(call.request)
        statement, chunk = ids.digest(call.words["digest"]), call.number("chunk")
        upload = await self._run(self._service.begin_upload, call.region, statement, chunk)
        if size_bytes != upload.size_bytes:
            await self._run(upload.abort)
            raise _wrong_size(size_bytes, upload)
        connection = connection_of(call.request)
        connection.transferring = True
        try:
            receipt = await receive_payload(
                call.request.content,
                upload,
                first_chunk=chunk,
                executor=self._executor,
                buffers=self._buffers,
                chunk_timeout_s=self._limits.chunk_timeout_s,
            )
        finally:
            connection.transferring = False
        return _bytes(receipt)

    async def download(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        digest, offset = ids.digest(call.words["digest"]), call.number("chunk") * CHUNK_BYTES
        payload = await self._run(self._service.open_payload, call.region, digest)
        connection, response = connection_of(call.request), web.StreamResponse()
        connection.transferring = True
        try:
            if offset > payload.size_bytes:
                raise FormatError(f"{digest}: has {payload.size_bytes} bytes, none from {offset}")
            response.content_length = payload.size_bytes - offset
            await response.prepare(call.request)
            await send_payload(
                response,
                payload,
                offset=offset,
                executor=self._executor,
                buffers=self._buffers,
                chunk_timeout_s=self._limits.chunk_timeout_s,
            )
        except BaseException:
            if response.prepared:
                connection.abort()  # a response that has begun cannot become an error
            raise
        finally:
            connection.transferring = False
            os.close(payload.fd)
        return response

    async def receipt(self, call: Call) -> web.StreamResponse:
        envelope = await self._body(call, limit_bytes=STATEMENT_LIMIT_BYTES)
        await self._run(self._service.accept_receipt, call.region, envelope)
        return web.Response(status=NO_CONTENT)

    # ── Log ──

    async def checkpoint(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        return _bytes((await self._run(self._service.checkpoint, call.region)).encode())

    async def disclosure(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        digest = ids.digest(call.words["digest"])
        return _bytes(await self._run(self._service.disclosure, call.region, digest))

    async def consistency(self, call: Call) -> web.StreamResponse:
        _expect_no_body(call.request)
        old, new = call.number("old"), call.number("new")
        return _json(await self._run(self._service.consistency, call.region, old=old, new=new))

    async def cosign(self, call: Call) -> web.StreamResponse:
        line = await self._body(call, limit_bytes=COSIGNATURE_LIMIT_BYTES)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("cosignature: expected UTF-8 text") from error
        await self._run(self._service.cosign, call.region, text)
        return web.Response(status=NO_CONTENT)

    async def _body(self, call: Call, *, limit_bytes: int) -> bytes:
        size_bytes = _body_size(call.request)
        if not size_bytes:
            return b""
        if size_bytes > limit_bytes:
            raise RequestError(
                TOO_LONG, f"expected a body of at most {limit_bytes} bytes, got {size_bytes}"
            )
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return await call.request.content.readexactly(size_bytes)
        except TimeoutError as error:
            raise RequestError(TIMED_OUT, "the body came too slowly; send again") from error


Answer = Callable[[HubRoutes, Call], Awaitable[web.StreamResponse]]

_DIGEST = r"(?P<digest>[a-z0-9-]{1,32}:[0-9a-f]{64})"
_LINEAGE = r"(?P<lineage>[a-z0-9-]{1,32})"


def _number(name: str, digits: int = 18) -> str:
    return rf"{name}=(?P<{name}>[0-9]{{1,{digits}}})"


_ROUTES: tuple[tuple[str, re.Pattern[str], Answer], ...] = tuple(
    (method, re.compile(rf"/v1/{target}"), answer)
    for method, target, answer in (
        ("GET", "agreement", HubRoutes.agreement),
        ("POST", "agreement/signature", HubRoutes.sign_agreement),
        (
            "GET",
            rf"lineages/{_LINEAGE}\?{_number('seen')}&{_number('wait_s', 3)}",
            HubRoutes.lineage,
        ),
        ("GET", f"lineages/{_LINEAGE}/snapshot", HubRoutes.snapshot),
        ("POST", "offers", HubRoutes.offer),
        ("PUT", rf"payloads/{_DIGEST}\?{_number('chunk', 9)}", HubRoutes.upload),
        ("GET", rf"payloads/{_DIGEST}\?{_number('chunk', 9)}", HubRoutes.download),
        ("GET", f"statements/{_DIGEST}", HubRoutes.statement),
        ("POST", "receipts", HubRoutes.receipt),
        ("GET", "log/checkpoint", HubRoutes.checkpoint),
        ("GET", f"log/disclosures/{_DIGEST}", HubRoutes.disclosure),
        ("GET", rf"log/consistency\?{_number('old')}&{_number('new')}", HubRoutes.consistency),
        ("POST", "log/cosignatures", HubRoutes.cosign),
    )
)


def _route(request: web.BaseRequest, region: RegionId) -> tuple[Call, Answer]:
    for method, pattern, answer in _ROUTES:
        if method == request.method and (found := pattern.fullmatch(request.raw_path)):
            return Call(request=request, region=region, words=found.groupdict()), answer
    raise RequestError(NOT_FOUND, "this hub knows no such request")


def _body_size(request: web.BaseRequest) -> int:
    """Length of the body, known before a byte of it is read."""
    size_bytes = request.content_length
    if size_bytes is None or "Transfer-Encoding" in request.headers:
        raise RequestError(LENGTH_REQUIRED, "expected a Content-Length and a body in one piece")
    return size_bytes


def _expect_no_body(request: web.BaseRequest) -> None:
    if request.content_length or "Transfer-Encoding" in request.headers:
        raise RequestError(TOO_LONG, "expected no body with this request")


def _wrong_size(size_bytes: int, upload: Upload) -> RequestError:
    status = TOO_LONG if size_bytes > upload.size_bytes else BAD_REQUEST
    return RequestError(
        status, f"expected a body of {upload.size_bytes} bytes as announced, got {size_bytes}"
    )


def _json(message: object) -> web.Response:
    return web.Response(body=canonical.to_bytes(message), content_type="application/json")


def _bytes(data: bytes) -> web.Response:
    return web.Response(body=data)
