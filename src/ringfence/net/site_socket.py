"""The gateway's end of the line to its sites: a Unix socket that one user can open.

    with SiteListener(home / "run" / "site.sock") as listener:
        with listener.accept() as link:
            link.welcome(Welcome(...), update_layout)
            taken = link.train(Train(...), model_fd=model, update_bytes=update_layout.size_bytes)
            if isinstance(taken, SubmittedUpdate):
                link.acknowledge()

Calls block and are for one gateway thread; `close` may come from any.  One site trains at a time:
while its link is open, another is turned away with a reason.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ringfence.core.errors import ConfigError, FormatError, Refused
from ringfence.core.site_wire import (
    Done,
    Evaluate,
    Evaluated,
    FromGateway,
    Hello,
    SiteGone,
    Submit,
    Submitted,
    SubmittedUpdate,
    Train,
    Welcome,
    from_site,
    layout_to_bytes,
    rejection,
)
from ringfence.core.tensorfile import write_all
from ringfence.core.tensors import Layout
from ringfence.net import site_access
from ringfence.site import frames, unix_socket
from ringfence.site.handover import check_sealed

A = TypeVar("A", Submit, Evaluated)

_TURN_AWAY_S = 1.0
_RETRY_S = 0.05
_CREDENTIALS = struct.Struct("3i")


class SiteListener:
    """A listening socket and the thread that lets sites in, one at a time."""

    def __init__(self, path: Path, *, site_uid: int = -1, hello_timeout_s: float = 10.0) -> None:
        """Listen at `path` for scripts of user `site_uid`; -1 means our own user.

        Another user is let into the socket's directory, and to the socket, by name.  Raises:
        ConfigError when the path cannot be ours (`unix_socket.listen`), or that user not be let in.
        """
        self._path = path
        self._hello_timeout_s = hello_timeout_s
        self._site_uid = os.geteuid() if site_uid == -1 else site_uid
        self._socket = _listen(path, self._site_uid)
        self._admitted: socket.socket | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._arrivals: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._admit, name="site-listener", daemon=True)
        self._thread.start()

    def __enter__(self) -> SiteListener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def accept(self, *, timeout_s: float | None = None) -> SiteLink | None:
        """Wait for a site that introduces itself; `None` after `timeout_s` or once closed.

        The link expects `welcome` or `reject` next.
        """
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if give_up is None else max(0.0, give_up - time.monotonic())
            try:
                connection = self._arrivals.get(timeout=left_s)
            except queue.Empty:
                return None
            if connection is None:
                self._arrivals.put(None)
                return None
            link = self._introduction(connection)
            if link is not None:
                return link

    def close(self) -> None:
        """Stop listening and remove the socket; an open link stays open."""
        if self._closing.is_set():
            return
        self._closing.set()
        # Shutting a listening socket down wakes its accept(); closing it would not.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        unix_socket.stop_listening(self._socket, self._path)
        while not self._arrivals.empty():
            if (waiting := self._arrivals.get()) is not None:
                waiting.close()
        self._arrivals.put(None)

    def _admit(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                # Closed, or out of descriptors for a while.
                if self._closing.wait(_RETRY_S):
                    return
                continue
            unix_socket.widen(connection)
            refused = _stranger(connection, self._site_uid)
            with self._lock:
                if refused is None and unix_socket.is_open(self._admitted):
                    refused = Refused(
                        stage="connect",
                        reason="site-already-connected",
                        detail="another script of this region is training; stop it or wait for it",
                    )
                if refused is None:
                    self._admitted = connection
                    self._arrivals.put(connection)
            if refused is not None:
                _turn_away(connection, refused)

    def _introduction(self, connection: socket.socket) -> SiteLink | None:
        link: SiteLink | None = None
        try:
            hello = _hello(connection, self._hello_timeout_s)
            if hello is not None:
                link = SiteLink(connection, hello, lock=self._lock)
        except FormatError as error:
            refused = Refused(stage="connect", reason="site-bad-hello", detail=str(error))
            frames.send(connection, rejection(refused))
        finally:
            if link is None:
                with self._lock:
                    connection.close()
        return link


class SiteLink:
    """An open line to one training script; `hello` is how it introduced itself.

    What a site does raises nothing but `FormatError` (it broke the protocol; the link is closed)
    and `Refused` (the link goes on, and `reject` tells the site).  That it went away is an outcome.
    """

    def __init__(self, connection: socket.socket, hello: Hello, *, lock: threading.Lock) -> None:
        self.hello = hello
        self._connection = connection
        self._lock = lock
        self._training: Train | None = None

    def __enter__(self) -> SiteLink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def welcome(self, message: Welcome, update_layout: Layout) -> None:
        """Take the site in and tell it the layout of an update; if it has gone, the next call says.

        Until this is said, the site waits.
        """
        descriptor = os.memfd_create("ringfence-layout", os.MFD_CLOEXEC)
        try:
            write_all(descriptor, 0, memoryview(layout_to_bytes(update_layout)))
            self._send(message, descriptor)
        finally:
            os.close(descriptor)

    def train(
        self, order: Train, *, model_fd: int, update_bytes: int
    ) -> SubmittedUpdate | SiteGone:
        """Have the site train one round; returns when it has handed its update over.

        `model_fd` is the base model file, opened for reading only; it stays the caller's.
        `update_bytes` is the exact size of an update.  `acknowledge` or `reject` comes next.  The
        states that the site declares are passed on as they are: judging them is the gateway's.

        Raises: Refused when the update's size is not sealed, of another size or of another round;
        FormatError when the site breaks the protocol.
        """
        self._training = order
        answer = self._ask(order, model_fd, Submit)
        if isinstance(answer, SiteGone):
            return answer
        message, descriptors = answer
        try:
            _check_round(message, order)
            check_sealed(descriptors[0], size_bytes=update_bytes)
        except BaseException:
            frames.close_all(descriptors)
            raise
        return SubmittedUpdate(message=message, fd=descriptors[0])

    def acknowledge(self) -> None:
        """Tell the site that its update is kept; if it has gone, the next call says so."""
        if self._training is None:
            raise ConfigError("acknowledge: expected a round in training, got none; call train")
        self._send(Submitted(lineage=self._training.lineage, round=self._training.round))
        self._training = None

    def reject(self, refused: Refused) -> None:
        """Tell the site why its update (or, before `welcome`, its script) is refused."""
        self._send(rejection(refused))
        self._training = None

    def evaluate(self, order: Evaluate, *, model_fd: int) -> Evaluated | SiteGone:
        """Have the site measure a candidate; `model_fd` as for `train`.

        Raises: ConfigError when the script cannot evaluate (`hello.evaluates`); FormatError when
        the site breaks the protocol or answers about another candidate.
        """
        if not self.hello.evaluates:
            raise ConfigError(
                f"script {self.hello.script}: expected evaluate= in its ringfence.connect, as the "
                "agreement has a gate; add it"
            )
        answer = self._ask(order, model_fd, Evaluated)
        if isinstance(answer, SiteGone):
            return answer
        message, _ = answer
        came = (message.lineage, message.round, message.candidate)
        if came != (order.lineage, order.round, order.candidate):
            raise self._broken(
                f"site: expected an evaluation of {order.candidate} for {order.lineage} round "
                f"{order.round}, got one of {message.candidate}"
            )
        return message

    def done(self) -> bool:
        """Tell the site that the run is complete, and hang up; returns whether it was there."""
        told = self._send(Done())
        self.close()
        return told

    def close(self) -> None:
        """Hang up; wakes a call that waits in another thread, which returns `SiteGone`."""
        with self._lock:
            unix_socket.hang_up(self._connection)

    def _send(self, message: FromGateway, *descriptors: int) -> bool:
        return frames.send(self._connection, message, descriptors)

    def _ask(
        self, order: Train | Evaluate, model_fd: int, expected: type[A]
    ) -> tuple[A, list[int]] | SiteGone:
        try:
            sent = self._send(order, model_fd)
            received = frames.receive(self._connection, from_site) if sent else None
        except FormatError as error:
            raise self._broken(str(error)) from error
        if received is None:
            self.close()
            return SiteGone(
                why=f"script {self.hello.script} went away in {order.lineage} round {order.round}"
            )
        message, descriptors = received
        if not isinstance(message, expected):
            frames.close_all(descriptors)
            raise self._broken(
                f"site: expected {expected.__name__}, got {type(message).__name__}; it is no "
                "script of this Ringfence"
            )
        return message, descriptors

    def _broken(self, detail: str) -> FormatError:
        """Tell the site what it did wrong, so that it does not come back to repeat it; hang up."""
        self.reject(Refused(stage="take", reason="site-bad-message", detail=detail))
        self.close()
        return FormatError(detail)


def _check_round(message: Submit, order: Train) -> None:
    came = (message.lineage, message.round, message.base)
    if came != (order.lineage, order.round, order.parent):
        raise Refused(
            stage="take",
            reason="update-of-another-round",
            detail=f"expected {order.lineage} round {order.round} on {order.parent}, got "
            f"{message.lineage} round {message.round} on {message.base}",
        )


def _listen(path: Path, site_uid: int) -> socket.socket:
    """Listen at `path`, where `site_uid` alone can connect, if it is not us."""
    if site_uid == os.geteuid():
        return unix_socket.listen(path, kind=socket.SOCK_SEQPACKET)
    if path.parent.exists():
        # What a former gateway gave would look like a directory that is open to others.
        site_access.withdraw(path.parent)
    listener = unix_socket.listen(path, kind=socket.SOCK_SEQPACKET)
    try:
        site_access.grant(path, uid=site_uid, permissions=site_access.CONNECT)
        site_access.grant(path.parent, uid=site_uid, permissions=site_access.ENTER)
    except BaseException:
        listener.close()
        raise
    return listener


def _stranger(connection: socket.socket, site_uid: int) -> Refused | None:
    """Refuse a peer of another user; the kernel vouches for the id (unix(7), SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    if uid == site_uid:
        return None
    return Refused(
        stage="connect",
        reason="site-wrong-user",
        detail=f"expected a script of user {site_uid}, got one of user {uid}; see site_uid",
    )


def _turn_away(connection: socket.socket, refused: Refused) -> None:
    with connection:
        # Its word is read first: closing with unread data would reset our answer away.
        with contextlib.suppress(FormatError):
            _hello(connection, _TURN_AWAY_S)
        frames.send(connection, rejection(refused))


def _hello(connection: socket.socket, timeout_s: float) -> Hello | None:
    """Wait for `Hello`; `None` when the peer stays silent or goes; raises `FormatError`."""
    connection.settimeout(timeout_s)
    try:
        received = frames.receive(connection, from_site)
    except TimeoutError:
        return None
    finally:
        connection.settimeout(None)
    if received is None:
        return None
    message, descriptors = received
    frames.close_all(descriptors)
    if not isinstance(message, Hello):
        raise FormatError(f"site: expected Hello, got {type(message).__name__}")
    return message
