"""Long polls, the end of a server, and trying again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.net.border_hub import WORLD, Border, running
from tests.trust.trust_world import World

from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import BorderDownError
from ringfence.core.ids import LineageId
from ringfence.core.wire import LineageView
from ringfence.net.border_errors import TransferCutError


def test_a_view_that_the_caller_has_not_seen_comes_at_once(border: Border) -> None:
    # given a lineage at version 1
    with border.client() as client:
        # when a gateway that saw version 0 waits for news
        begun = time.monotonic()
        view = client.lineage(WORLD, seen=0, wait_s=25)
    # then it does not wait
    assert view.version == 1
    assert time.monotonic() - begun < 5


def test_a_long_poll_wakes_at_the_next_change(border: Border) -> None:
    # given a gateway that waits for the next version
    polling = _poll(border, seen=1, wait_s=25)
    # when another lineage changes, and then this one
    border.hub.callback(LineageId("us-market"))
    assert not polling.done()
    border.hub.change(WORLD)
    # then the gateway learns of it
    assert polling.result(5).version == 2


def test_a_change_that_leaves_the_callers_view_alone_does_not_wake_it(border: Border) -> None:
    # given a gateway that waits
    polling = _poll(border, seen=1, wait_s=25)
    # when the hub reports a change that this region cannot see
    border.hub.callback(WORLD)
    assert border.hub.seen.acquire(timeout=5)
    # then it goes on waiting, until one that it can see
    assert not polling.done()
    border.hub.change(WORLD)
    assert polling.result(5).version == 2


def test_a_long_poll_ends_after_its_time(border: Border) -> None:
    # given a lineage that does not change
    with border.client() as client:
        # when a gateway waits for one second
        begun = time.monotonic()
        view = client.lineage(WORLD, seen=1, wait_s=1)
    # then it gets the view that it has seen
    assert view.version == 1
    assert 0.9 < time.monotonic() - begun < 10


def test_a_long_poll_is_forgotten_when_its_caller_leaves(border: Border) -> None:
    # given a gateway that waits and goes away
    with border.connect() as connection:
        target = b"/v1/lineages/world?seen=1&wait_s=25"
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert border.hub.seen.acquire(timeout=5)
    # when the lineage changes a little later
    time.sleep(0.2)
    border.hub.change(WORLD)
    # then nobody asks the hub for it
    assert not border.hub.seen.acquire(timeout=0.3)


def test_a_closing_hub_answers_who_waits_and_cuts_who_sends(world: World, tmp_path: Path) -> None:
    # given one gateway that waits, and one whose upload is under way
    (path := tmp_path / "sent").write_bytes(bytes(40 * CHUNK_BYTES))
    with running(world, tmp_path) as border, ThreadPoolExecutor() as threads:
        polling = _poll(border, seen=1, wait_s=25)
        digest = border.hub.announce(bytes(40 * CHUNK_BYTES))
        border.hub.gate.clear()
        client = border.client()
        upload = threads.submit(client.upload, digest, path, chunk=0)
        while not any(call[0] == "begin_upload" for call in border.hub.calls):
            time.sleep(0.01)
        # when the hub closes
        closing = threads.submit(border.close)
        # then the first gets its view, the second can resume later
        assert polling.result(5).version == 1
        assert isinstance(upload.exception(5), TransferCutError)
        border.hub.gate.set()
        closing.result(10)
        assert border.hub.ended == ["abort"]
        # and nobody is let in any more
        with border.client() as late, pytest.raises(BorderDownError):
            late.agreement()


def test_a_server_ends_on_sigterm() -> None:
    # given a hub as a process of its own
    command = [sys.executable, "-m", "tests.net.border_process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        # when it is told to end
        process.send_signal(signal.SIGTERM)
        # then it ends by itself, and well
        assert process.wait(10) == 0


def _poll(border: Border, *, seen: int, wait_s: int) -> Future[LineageView]:
    """A gateway that waits in a thread; returns once the hub has shown it the present view."""
    polling: Future[LineageView] = Future()

    def poll() -> None:
        with border.client() as client:
            try:
                polling.set_result(client.lineage(WORLD, seen=seen, wait_s=wait_s))
            except BorderDownError as error:
                polling.set_exception(error)

    threading.Thread(target=poll).start()
    assert border.hub.seen.acquire(timeout=5)
    return polling
