"""Payloads over the border: whole, cut, resumed, altered, too long, too slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.net.border_hub import Border, CuttingProxy, ask, digest_of, running
from tests.trust.trust_world import World

from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import BorderDownError, FormatError, Refused
from ringfence.net.border_errors import TransferCutError
from ringfence.net.http_limits import ServerLimits

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 12345]


def pattern(size_bytes: int) -> bytes:
    """Bytes of which no two chunks are equal."""
    return (b"%015d\n" * (size_bytes // 16 + 1) % tuple(range(size_bytes // 16 + 1)))[:size_bytes]


@pytest.fixture
def proxy(border: Border) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(border.port)
    yield proxy
    proxy.close()


def collect(into: dict[int, bytes]) -> object:
    def sink(index: int, chunk: memoryview) -> None:
        into[index] = bytes(chunk)

    return sink


@pytest.mark.parametrize("size_bytes", SIZES)
def test_an_upload_arrives_whole(border: Border, tmp_path: Path, size_bytes: int) -> None:
    # given a payload that the hub expects
    data = pattern(size_bytes)
    (path := tmp_path / "sent").write_bytes(data)
    digest = border.hub.announce(data)
    with border.client() as client:
        # when it is sent, and something else asked on the same connection
        receipt = client.upload(digest, path, chunk=0)
        client.agreement()
    # then the hub holds it, chunk by chunk, and answered with its receipt
    assert border.hub.path(digest).read_bytes() == data
    assert border.hub.chunks_written == list(range(-(-size_bytes // CHUNK_BYTES)))
    assert border.hub.ended == ["finish"]
    assert receipt == b"receipt of " + digest.encode()


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_download_arrives_whole(border: Border, size_bytes: int) -> None:
    # given a payload that the hub holds
    data = pattern(size_bytes)
    digest = border.hub.store(data)
    chunks: dict[int, bytes] = {}
    with border.client() as client:
        # when it is fetched, and something else asked on the same connection
        client.download(digest, chunk=0, size_bytes=size_bytes, sink=collect(chunks))
        client.agreement()
    # then it came in whole chunks
    assert b"".join(chunks.values()) == data
    assert list(chunks) == list(range(-(-size_bytes // CHUNK_BYTES)))


def test_transfers_begin_at_the_chunk_that_is_asked_for(border: Border, tmp_path: Path) -> None:
    # given a payload of which each side lacks the end
    data = pattern(3 * CHUNK_BYTES + 5)
    (path := tmp_path / "sent").write_bytes(data)
    digest = border.hub.announce(data)
    chunks: dict[int, bytes] = {}
    with border.client() as client:
        # when it goes there and back from chunk 2 on
        client.upload(digest, path, chunk=2)
        client.download(digest, chunk=2, size_bytes=len(data), sink=collect(chunks))
    # then only chunks 2 and 3 crossed
    assert border.hub.chunks_written == [2, 3]
    assert chunks == {2: data[2 * CHUNK_BYTES : 3 * CHUNK_BYTES], 3: data[3 * CHUNK_BYTES :]}


def test_a_cut_upload_resends_at_most_one_chunk(
    border: Border, proxy: CuttingProxy, tmp_path: Path
) -> None:
    # given a line that breaks in the third of five chunks
    data = pattern(5 * CHUNK_BYTES)
    (path := tmp_path / "sent").write_bytes(data)
    digest = border.hub.announce(data)
    proxy.limit_bytes = int(2.5 * CHUNK_BYTES)
    with border.client(port=proxy.port) as client:
        with pytest.raises(TransferCutError):
            client.upload(digest, path, chunk=0)
        assert border.hub.aborted.wait(5)
        arrived = len(border.hub.chunks_written)
        # when the gateway goes on from what the hub holds
        proxy.limit_bytes = None
        receipt = client.upload(digest, path, chunk=arrived)
    # then the payload is whole, and of what had crossed less than one chunk crossed twice
    assert border.hub.path(digest).read_bytes() == data
    assert border.hub.chunks_written == [0, 1, 2, 3, 4]
    assert arrived == 2
    assert border.hub.ended == ["abort", "finish"]
    assert receipt


def test_a_cut_download_resends_at_most_one_chunk(border: Border, proxy: CuttingProxy) -> None:
    # given a line that breaks in the third of five chunks
    data = pattern(5 * CHUNK_BYTES)
    digest = border.hub.store(data)
    chunks: dict[int, bytes] = {}
    proxy.limit_bytes = int(2.5 * CHUNK_BYTES)
    with border.client(port=proxy.port) as client:
        with pytest.raises(TransferCutError) as cut:
            client.download(digest, chunk=0, size_bytes=len(data), sink=collect(chunks))
        # when the gateway goes on behind the chunks that it took
        assert cut.value.chunks == len(chunks) == 2
        proxy.limit_bytes = None
        client.download(digest, chunk=2, size_bytes=len(data), sink=collect(chunks))
    # then the payload is whole
    assert b"".join(chunks.values()) == data


def test_an_altered_chunk_ends_an_upload_before_its_end(border: Border, tmp_path: Path) -> None:
    # given a payload of 400 MB of which one byte of chunk 1 is not as announced
    size_bytes = 100 * CHUNK_BYTES
    path = tmp_path / "sent"
    with path.open("wb") as file:
        file.truncate(size_bytes)
    digest = border.hub.announce(bytes(size_bytes))
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES + 7)
        file.write(b"\x01")
    with border.client() as client:
        # when it is sent
        with pytest.raises(FormatError, match="chunk 1"):
            client.upload(digest, path, chunk=0)
        # then chunk 0 is kept, nothing behind it, and the next request works
        assert border.hub.chunks_written == [0]
        assert border.hub.ended == ["abort"]
        client.agreement()


def test_a_refused_upload_costs_no_payload(border: Border, tmp_path: Path) -> None:
    # given a hub that refuses this payload
    border.hub.error = Refused(stage="intake", reason="equivocation", detail="sent another")
    path = tmp_path / "sent"
    with path.open("wb") as file:
        file.truncate(100 * CHUNK_BYTES)
    digest = digest_of(b"").digest
    with border.client() as client, pytest.raises(Refused) as refusal:
        # when it is sent all the same
        client.upload(digest, path, chunk=0)
    # then the gateway learns why
    assert refusal.value.reason == "equivocation"
    assert border.hub.chunks_written == []


@pytest.mark.parametrize(
    ("size_bytes", "status"), [(4, b"400"), (6, b"413"), (CHUNK_BYTES * 9, b"413")]
)
def test_a_body_of_another_length_than_announced_is_not_read(
    border: Border, size_bytes: int, status: bytes
) -> None:
    # given an announced payload of five bytes
    digest = border.hub.announce(b"12345")
    head = f"PUT /v1/payloads/{digest}?chunk=0 HTTP/1.1\r\nHost: h\r\nContent-Length: {size_bytes}"
    with border.connect() as connection:
        # when another length is said
        answer = ask(connection, head.encode() + b"\r\n\r\n")
    # then the body is not waited for
    assert answer.split(b" ", 2)[1] == status
    assert border.hub.chunks_written == []
    assert border.hub.ended == ["abort"]


@pytest.mark.parametrize(
    ("fields", "body"),
    [("X-None: 1", b""), ("Transfer-Encoding: chunked", b"5\r\n12345\r\n0\r\n\r\n")],
)
def test_an_upload_says_its_length(border: Border, fields: str, body: bytes) -> None:
    # given an announced payload
    digest = border.hub.announce(b"12345")
    head = f"PUT /v1/payloads/{digest}?chunk=0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}"
    with border.connect() as connection:
        # when no length is said
        answer = ask(connection, head.encode() + b"\r\n\r\n" + body)
    # then nothing of it is taken
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert border.hub.calls == []


def test_a_body_shorter_than_it_says_is_given_up(border: Border) -> None:
    # given a client that leaves in the middle of its chunk
    data = pattern(100)
    digest = border.hub.announce(data)
    head = f"PUT /v1/payloads/{digest}?chunk=0 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
    with border.connect() as connection:
        # when it has sent a part
        connection.sendall(head.encode() + data[:60])
    # then the hub lets go of the upload and keeps no half chunk
    assert border.hub.aborted.wait(5)
    assert border.hub.chunks_written == []


def test_a_slow_upload_is_told_and_cut(world: World, tmp_path: Path) -> None:
    # given a hub with little patience
    limits = ServerLimits(chunk_timeout_s=0.3, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border:
        digest = border.hub.announce(pattern(100))
        head = f"PUT /v1/payloads/{digest}?chunk=0 HTTP/1.1\r\nHost: h\r\nContent-Length: 100"
        with border.connect() as connection:
            # when a chunk stops half way
            answer = ask(connection, head.encode() + b"\r\n\r\nhalf")
        # then the hub gives up
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert border.hub.ended == ["abort"]


def test_a_reader_that_stops_is_cut(world: World, tmp_path: Path) -> None:
    # given a hub with little patience, and a download larger than what sockets hold
    limits = ServerLimits(chunk_timeout_s=0.3, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border:
        digest = border.hub.store(bytes(16 * CHUNK_BYTES))
        with border.connect() as connection:
            # when nobody reads it
            request = f"GET /v1/payloads/{digest}?chunk=0 HTTP/1.1\r\nHost: h\r\n\r\n"
            connection.sendall(request.encode())
            time.sleep(1.0)
            # then the rest does not come
            assert len(ask(connection, b"")) < 16 * CHUNK_BYTES


def test_a_fault_of_the_disk_is_the_hubs_own_business(border: Border, tmp_path: Path) -> None:
    # given a hub whose disk is full
    data = pattern(100)
    (path := tmp_path / "sent").write_bytes(data)
    digest = border.hub.announce(data)
    border.hub.storage_error = OSError(28, "No space left on /var/hub")
    with border.client() as client, pytest.raises(BorderDownError) as fault:
        # when a payload comes
        client.upload(digest, path, chunk=0)
    # then the gateway may try again, and learns nothing of the disk
    assert "/var/hub" not in str(fault.value)
    assert border.hub.ended == ["abort"]


def test_at_most_two_chunks_of_an_upload_are_in_memory(border: Border, tmp_path: Path) -> None:
    # given a hub whose disk is stuck
    data = bytes(40 * CHUNK_BYTES)
    (path := tmp_path / "sent").write_bytes(data)
    digest = border.hub.announce(data)
    border.hub.gate.clear()
    proxy = CuttingProxy(border.port)
    with border.client(port=proxy.port) as client:
        upload = threading.Thread(target=client.upload, args=(digest, path), kwargs={"chunk": 0})
        # when a payload comes
        upload.start()
        before = -1
        while proxy.passed_bytes > before or before == 0:
            before = proxy.passed_bytes
            time.sleep(0.2)
        # then the hub stops reading behind two chunks and what the sockets hold
        assert before < 6 * CHUNK_BYTES
        border.hub.gate.set()
        upload.join()
    proxy.close()
    assert border.hub.chunks_written == list(range(40))


def test_a_payload_shorter_at_the_hub_than_it_says_is_a_cut(border: Border) -> None:
    # given a stored file that has lost its end
    data = pattern(3 * CHUNK_BYTES)
    digest = border.hub.store(data)
    border.hub.path(digest).write_bytes(data[: CHUNK_BYTES + 5])
    chunks: dict[int, bytes] = {}
    with border.client() as client, pytest.raises(TransferCutError):
        # when it is fetched
        client.download(digest, chunk=0, size_bytes=len(data), sink=collect(chunks))
    # then at most the whole chunk was passed on
    assert chunks in ({}, {0: data[:CHUNK_BYTES]})


def test_a_payload_of_another_size_than_its_statement_says_is_not_read(border: Border) -> None:
    # given a statement that speaks of one byte less
    digest = border.hub.store(b"12345")
    chunks: dict[int, bytes] = {}
    with border.client() as client:
        # when it is fetched
        with pytest.raises(FormatError, match="expected 4 bytes"):
            client.download(digest, chunk=0, size_bytes=4, sink=collect(chunks))
        # then nothing is passed on, and the next request works
        assert chunks == {}
        client.agreement()


def test_what_the_sink_raises_ends_the_download(border: Border) -> None:
    # given a sink that finds a chunk altered
    digest = border.hub.store(bytes(3 * CHUNK_BYTES))

    def sink(index: int, chunk: memoryview) -> None:
        raise FormatError("chunk 0 differs")

    with border.client() as client:
        # when the payload is fetched
        with pytest.raises(FormatError, match="chunk 0 differs"):
            client.download(digest, chunk=0, size_bytes=3 * CHUNK_BYTES, sink=sink)
        # then the rest is not read, and the next request works
        client.agreement()


def test_chunks_behind_the_end_do_not_exist(border: Border, tmp_path: Path) -> None:
    # given a payload of one chunk
    (path := tmp_path / "sent").write_bytes(b"12345")
    digest = border.hub.store(b"12345")
    with border.client() as client:
        # when one behind its end is sent or fetched
        # then it does not get as far as the hub
        with pytest.raises(FormatError):
            client.upload(digest, path, chunk=2)
        with pytest.raises(FormatError):
            client.download(digest, chunk=2, size_bytes=5, sink=collect({}))
    assert border.hub.calls == []
    # and the hub would not have it either
    head = f"GET /v1/payloads/{digest}?chunk=2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with border.connect() as connection:
        assert ask(connection, head.encode()).startswith(b"HTTP/1.1 400 ")
