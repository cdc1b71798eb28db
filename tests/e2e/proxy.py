"""A line across the border that a test can cut, hold and slow; it counts what it carries."""

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]
"""Up is towards the hub."""

_PIECE_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` of no seconds: closing sends a reset instead of a goodbye."""


@dataclass(slots=True, eq=False)
class Connection:
    """One TCP connection through the proxy, and what it has carried, of it before the mark."""

    gateway: socket.socket
    hub: socket.socket
    carried: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    before: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    open_ends: int = 2
    is_cut: bool = False


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
        self._turned_away = 0
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
            self._lift()

    def pace(self, direction: Direction, bytes_per_s: float) -> None:
        """Carry no more than this in one direction, on each connection."""
        with self._state:
            self._pace[direction] = bytes_per_s

    def unpace(self) -> None:
        """Carry as fast as it goes again."""
        with self._state:
            self._pace.clear()

    def cut(self, direction: Direction = "up") -> None:
        """End every connection, and lift every mark.

        What was carried in `direction` reaches its end; whoever was sending it is reset, as by a
        line that is gone.
        """
        with self._state:
            open_now = [each for each in self._connections if each.open_ends]
            for each in open_now:
                sender = each.gateway if direction == "up" else each.hub
                with contextlib.suppress(OSError):
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._lift()
        for each in open_now:
            each.is_cut = True
            for end in (each.gateway, each.hub):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RD)  # wakes who reads; says nothing to the other side
        with self._state:
            self._state.wait_for(lambda: not any(each.open_ends for each in open_now))

    def close_door(self) -> None:
        """End every connection, and let no other come about."""
        with self._state:
            self._door_open = False
        self.cut()

    def open_door(self) -> None:
        with self._state:
            self._door_open = True

    def turned_away(self) -> int:
        """How many connections found no way to the hub."""
        with self._state:
            return self._turned_away

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
                with self._state:
                    self._turned_away += 1
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
                if connection.is_cut:
                    break
                sink.sendall(piece)
                with self._state:
                    connection.carried[direction] += len(piece)
                    pace = self._pace.get(direction)
                if pace is not None:
                    time.sleep(len(piece) / pace)
        with self._state:
            connection.open_ends -= 1
            if connection.open_ends:
                # Nothing comes this way any more; the other way ends by itself.
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
            else:
                source.close()
                sink.close()
            self._state.notify_all()

    def _lift(self) -> None:
        self._marks.clear()
        self._held.clear()
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
