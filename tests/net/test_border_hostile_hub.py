"""What a gateway does with a hub that is trusted by certificate and lies all the same."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.net.border_hub import Border

from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import BorderDownError, Error, FormatError
from ringfence.core.ids import Digest
from ringfence.core.wire import CONTROL_LIMIT_BYTES
from ringfence.net.border_client import BorderClient
from ringfence.net.http_limits import HEAD_LIMIT_BYTES, ClientTimeouts

PAYLOAD = Digest("chunked-blake3:" + "0" * 64)


@contextlib.contextmanager
def _hub_that_says(border: Border, answer: bytes, *, then_s: float = 0.0) -> Iterator[BorderClient]:
    """A client of a hub that answers every request with `answer`, bit by bit if `then_s` is set."""
    context = border.world.hub()
    stop = threading.Event()

    def serve(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(answer)
            while then_s and not stop.wait(then_s):
                connection.sendall(b"x")
            connection.unwrap().close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        timeouts = ClientTimeouts(io_s=1.0, chunk_s=1.0)
        try:
            with border.client(port=listener.getsockname()[1], timeouts=timeouts) as client:
                yield client
        finally:
            stop.set()
            thread.join()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", BorderDownError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", BorderDownError),
        (b"\x00\xff\r\n\r\n", BorderDownError),
        (b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n", BorderDownError),
        (OK + b"\r\n{}", BorderDownError),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", BorderDownError),
        (OK + b"Content-Length: -2\r\n\r\n{}", BorderDownError),
        (OK + b"Content-Length: 2\r\n\r\n{}GARBAGE", BorderDownError),
        (OK + b"Content-Length: 3\r\n\r\n{}", BorderDownError),
        (OK + b"X: " + b"a" * HEAD_LIMIT_BYTES, BorderDownError),
        (OK + b"X: 1\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}", BorderDownError),
        (OK + b"Content-Length: %d\r\n\r\n" % (CONTROL_LIMIT_BYTES + 1), FormatError),
        (OK + b"Content-Length: 999999999999999999\r\n\r\n", FormatError),
        (OK + b"Content-Length: 2\r\n\r\n{}", FormatError),
        (OK + b"Content-Length: 4\r\n\r\n\xff\xff\xff\xff", FormatError),
        (b"HTTP/1.1 409 No\r\nContent-Length: 2\r\n\r\n{}", FormatError),
        (b"HTTP/1.1 409 No\r\nContent-Length: 999999999\r\n\r\n", FormatError),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", FormatError),
        (b"HTTP/1.1 400 No\r\nContent-Length: 4\r\n\r\n\x1b[2J", FormatError),
    ],
)
def test_an_answer_that_is_none_is_a_clear_error(
    border: Border, answer: bytes, error: type[Error]
) -> None:
    # given a hub that talks nonsense
    with _hub_that_says(border, answer) as client, pytest.raises(error) as caught:
        # when a gateway asks
        client.agreement()
    # then it says so in printable words
    assert type(caught.value) is error
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"]
)
def test_a_hub_that_trickles_is_given_up(border: Border, answer: bytes) -> None:
    # given a hub that sends a byte now and then, for ever
    begun = time.monotonic()
    with (
        _hub_that_says(border, answer, then_s=0.05) as client,
        pytest.raises(BorderDownError),
    ):
        # when a gateway asks
        client.agreement()
    # then it does not wait for ever
    assert time.monotonic() - begun < 10


def test_a_download_that_trickles_is_given_up(border: Border) -> None:
    # given a hub that begins a payload of one chunk and then sends a byte now and then
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % CHUNK_BYTES
    taken: list[int] = []
    with (
        _hub_that_says(border, head, then_s=0.05) as client,
        pytest.raises(BorderDownError),
    ):
        # when a gateway fetches it
        client.download(
            PAYLOAD,
            chunk=0,
            size_bytes=CHUNK_BYTES,
            sink=lambda index, chunk: taken.append(index),
        )
    # then it gives up, and nothing was passed on
    assert taken == []
