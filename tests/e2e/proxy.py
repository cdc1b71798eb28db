"""A line across the border that a test can cut, hold and slow; it counts what it carries."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]
"""Up is towards the hub."""

_PIECE_BYTES = 64 * 1024


@dataclass(slots=True, eq=False)
class Connection:
    """One TCP connection through the proxy, and what it has carried, of it before the mark."""

    gateway: socket.socket
    hub: socket.socket
    carried: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    before: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    open_ends: int = 2


class Proxy:
    """Listens at `address`, where gateways dial, and passes TLS on to the hub at `target`.

    `held` says that a connection stands at the mark that `hold` set.
    """

    def __init__(self, address: str, target: str) -> None:
        self._address, self._target = _pair(address), _pair(target)
        self._state = threading.Condition()
        self._connections: list[Connection] = []
        self._marks: dict[Direction, int] = {}
        self._held: list[Connection] = []
        self._pace: dict[Direction, float] = {}
        self._door_open = True
        self._listener = socket.create_server(self._address)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()

    # ── what a test does ──

    def hold(self, direction: Direction, after_bytes: int) -> None:
        """Let each connection carry `after_bytes` more in one direction and then stand still."""
        with self._state:
            self._marks[direction] = after_bytes
            for each in self._connections:
                each.before[direction] = each.carried[direction]

    def held(self) -> bool:
        """Whether a connection stands at its mark."""
        with self._state:
            return bool(self._held)

    def release(self) -> None:
        """Take every mark away; what stood goes on."""
        with self._state:
            self._marks.clear()
            self._held.clear()
            self._state.notify_all()

    def pace(self, direction: Direction, bytes_per_s: float) -> None:
        """Carry no more than this in one direction, on each connection."""
        with self._state:
            self._pace[direction] = bytes_per_s

    def cut(self) -> None:
        """End every connection, after what it has taken in was passed on, and lift every mark."""
        with self._state:
            open_now = [each for each in self._connections if each.open_ends]
            self._marks.clear()
            self._held.clear()
            self._state.notify_all()
        for each in open_now:
            for end in (each.gateway, each.hub):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        with self._state:
            self._state.wait_for(lambda: not any(each.open_ends for each in open_now))

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """No connection lives, and none comes about, as long as the context lasts."""
        with self._state:
            self._door_open = False
        self.cut()
        try:
            yield
        finally:
            with self._state:
                self._door_open = True

    def connections(self) -> list[dict[Direction, int]]:
        """What each connection has carried so far, in the order in which they came."""
        with self._state:
            return [dict(each.carried) for each in self._connections]

    def carried(self, direction: Direction) -> int:
        """Bytes carried in one direction by all connections together."""
        return sum(each[direction] for each in self.connections())

    # ── threads ──

    def _accept(self) -> None:
        while True:
            try:
                gateway, _ = self._listener.accept()
            except OSError:
                return
            with self._state:
                welcome = self._door_open
            try:
                hub = socket.create_connection(self._target) if welcome else None
            except OSError:
                hub = None
            if hub is None:
                gateway.close()
                continue
            for end in (gateway, hub):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(gateway, hub)
            with self._state:
                self._connections.append(connection)
            for direction, source, sink in (("up", gateway, hub), ("down", hub, gateway)):
                pump = threading.Thread(
                    target=self._pump, args=(connection, direction, source, sink), daemon=True
                )
                pump.start()

    def _pump(
        self,
        connection: Connection,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(self._allowed(connection, direction)):
                sink.sendall(piece)
                with self._state:
                    connection.carried[direction] += len(piece)
                    pace = self._pace.get(direction)
                if pace is not None:
                    time.sleep(len(piece) / pace)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._state:
            connection.open_ends -= 1
            if not connection.open_ends:
                source.close()
                sink.close()
            self._state.notify_all()

    def _allowed(self, connection: Connection, direction: Direction) -> int:
        """How many bytes may be read now; waits at a mark until it is lifted."""
        with self._state:
            while (mark := self._marks.get(direction)) is not None:
                left = mark + connection.before[direction] - connection.carried[direction]
                if left > 0:
                    return min(left, _PIECE_BYTES)
                if connection not in self._held:
                    self._held.append(connection)
                self._state.wait()
        return _PIECE_BYTES


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
