"""Attacks on the gateway's socket, by sites that do not use our library."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.site.site_world import (
    HELLO,
    MODEL,
    UPDATE_LAYOUT,
    WELCOME,
    Aside,
    Region,
    bare_site,
    digest,
    evaluate,
    open_descriptors,
    train,
    welcomed,
)

from ringfence.core import canonical
from ringfence.core.errors import ConfigError, FormatError, Refused
from ringfence.core.site_wire import (
    SITE_LIMIT_BYTES,
    Evaluated,
    Hello,
    Rejected,
    SiteGone,
    Submit,
    SubmittedUpdate,
    from_gateway,
)
from ringfence.net.site_socket import SiteListener
from ringfence.site import frames, unix_socket
from ringfence.site.handover import SEALS, UpdateMemory

SUBMIT = Submit(
    lineage="world",
    round=0,
    base=digest("release 0"),
    state_in="",
    state_out="",
    examples=3,
    metrics={},
)


@contextmanager
def memory_file(size_bytes: int = 28, *, seals: int = SEALS) -> Iterator[int]:
    descriptor = os.memfd_create("update", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


def raw(connection: socket.socket, data: bytes, descriptors: list[int] | None = None) -> None:
    """Send bytes and descriptors as they are."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors or []))
    connection.sendmsg([data], [rights] if descriptors else [])


def heard(connection: socket.socket) -> object:
    """The gateway's next message, `None` when it has hung up."""
    answer = frames.receive(connection, from_gateway)
    if answer is None:
        return None
    frames.close_all(answer[1])
    return answer[0]


def introduce(connection: socket.socket) -> None:
    """Say hello as our library does, and take the first order."""
    frames.send(connection, HELLO)
    assert heard(connection) == WELCOME
    assert heard(connection) == train()


def handed_over(
    region: Region,
    listener: SiteListener,
    attack: Callable[[socket.socket], object],
) -> SubmittedUpdate | SiteGone:
    """What the gateway makes of a site that answers its order by `attack`."""

    def serve() -> SubmittedUpdate | SiteGone:
        with welcomed(listener) as link:
            return link.train(train(), model_fd=region.model_fd, update_bytes=28)

    gateway = Aside(serve)
    with bare_site(region.socket_path) as connection:
        introduce(connection)
        attack(connection)
        taken: SubmittedUpdate | SiteGone = gateway.result()
        return taken


# ---- what is handed over ------------------------------------------------------------------------


def test_the_site_cannot_resize_what_it_has_handed_over(
    region: Region, listener: SiteListener
) -> None:
    # given an update that the gateway has taken
    after = {name: np.asarray(value + 1) for name, value in MODEL.items()}
    memory = UpdateMemory(UPDATE_LAYOUT)
    update = memory.write_difference(after, MODEL)
    taken = handed_over(
        region, listener, lambda connection: raw(connection, canonical.to_bytes(SUBMIT), [update])
    )
    assert isinstance(taken, SubmittedUpdate)
    # when the site tries every way to make it shorter or longer
    again = os.open(f"/proc/self/fd/{update}", os.O_RDWR)
    attempts: list[Callable[[], object]] = [
        lambda: os.ftruncate(update, 0),
        lambda: os.ftruncate(again, 4096),
        lambda: os.pwrite(update, b"\xff", 4096),
        lambda: fcntl.fcntl(update, fcntl.F_ADD_SEALS, 0),
        lambda: os.posix_fallocate(update, 0, 8192),
    ]
    for attempt in attempts:
        with pytest.raises(OSError):
            attempt()
    # then the bytes are what they were
    np.testing.assert_array_equal(taken.values(), np.ones(7, np.float32))
    memory.close()
    os.close(again)
    taken.close()


@pytest.mark.parametrize(
    "seals",
    [
        0,
        fcntl.F_SEAL_SEAL,
        SEALS & ~fcntl.F_SEAL_GROW,
        SEALS & ~fcntl.F_SEAL_SHRINK,
        SEALS & ~fcntl.F_SEAL_SEAL,
        fcntl.F_SEAL_WRITE,
    ],
)
def test_refuses_a_memory_file_that_lacks_a_seal(
    region: Region, listener: SiteListener, seals: int
) -> None:
    # given a memory file with some seals only
    with memory_file(seals=seals) as update:
        before = open_descriptors()
        # when a site hands it over
        with pytest.raises(Refused) as refusal:
            handed_over(region, listener, lambda c: raw(c, canonical.to_bytes(SUBMIT), [update]))
        # then it is refused and not kept
        assert (refusal.value.stage, refusal.value.reason) == ("take", "update-not-sealed")
        assert open_descriptors() == before


@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "directory", "device", "path", "blind"])
def test_refuses_what_is_no_readable_memory_file(
    region: Region, listener: SiteListener, kind: str
) -> None:
    # given something else that has a descriptor
    with memory_file() as update, (region.home / "file").open("w+b") as file:
        file.write(bytes(28))
        file.flush()
        pipe = os.pipe()
        pair = socket.socketpair()
        others = {
            "directory": os.open(region.home, os.O_RDONLY),
            "device": os.open("/dev/zero", os.O_RDONLY),
            "path": os.open(f"/proc/self/fd/{update}", os.O_PATH),
            "blind": os.dup(pipe[1]),
        }
        descriptors = {"file": file.fileno(), "pipe": pipe[0], "socket": pair[0].fileno(), **others}
        # when a site hands it over
        with pytest.raises(Refused, match="update-not-sealed"):
            handed_over(
                region,
                listener,
                lambda c: raw(c, canonical.to_bytes(SUBMIT), [descriptors[kind]]),
            )
        # then (above) it is refused
        for descriptor in (*pipe, *others.values()):
            os.close(descriptor)
        for end in pair:
            end.close()


@pytest.mark.parametrize("size_bytes", [0, 24, 27, 29, 32, 1 << 40])
def test_refuses_an_update_of_another_size(
    region: Region, listener: SiteListener, size_bytes: int
) -> None:
    # given a sealed memory file of another size than agreed
    with memory_file(size_bytes) as update, pytest.raises(Refused) as refusal:
        # when a site hands it over
        handed_over(region, listener, lambda c: raw(c, canonical.to_bytes(SUBMIT), [update]))
    # then it is refused
    assert refusal.value.reason == "update-wrong-size"
    assert refusal.value.detail == f"expected 28 bytes of float32 as agreed, got {size_bytes}"


@pytest.mark.parametrize(
    "change", [{"lineage": "us-market"}, {"round": 1}, {"base": digest("release 1")}]
)
def test_refuses_an_update_of_another_round(
    region: Region, listener: SiteListener, change: dict[str, object]
) -> None:
    # given an order for round 0 of `world`
    data = canonical.to_bytes(structs.replace(SUBMIT, **change))
    with memory_file() as update, pytest.raises(Refused) as refusal:
        # when a site answers about another
        handed_over(region, listener, lambda c: raw(c, data, [update]))
    # then it is refused
    assert refusal.value.reason == "update-of-another-round"


def test_a_refused_site_may_answer_again(region: Region, listener: SiteListener) -> None:
    # given a site whose update was refused
    def serve() -> SubmittedUpdate | SiteGone:
        with welcomed(listener) as link:
            with pytest.raises(Refused) as refusal:
                link.train(train(), model_fd=region.model_fd, update_bytes=28)
            link.reject(refusal.value)
            taken = link.train(train(), model_fd=region.model_fd, update_bytes=28)
            link.acknowledge()
            return taken

    gateway = Aside(serve)
    with (
        bare_site(region.socket_path) as connection,
        memory_file(seals=0) as unsealed,
        memory_file() as sealed,
    ):
        introduce(connection)
        raw(connection, canonical.to_bytes(SUBMIT), [unsealed])
        answer = heard(connection)
        # when it is asked again and hands over a sealed one
        assert heard(connection) == train()
        raw(connection, canonical.to_bytes(SUBMIT), [sealed])
        taken = gateway.result()
    # then the first was answered with the reason, and the second is taken
    assert isinstance(answer, Rejected)
    assert answer.reason == "update-not-sealed"
    assert isinstance(taken, SubmittedUpdate)
    taken.close()


# ---- packets ------------------------------------------------------------------------------------


GOOD = canonical.to_bytes(SUBMIT)
PACKETS = {
    "too long": (b"x" * (SITE_LIMIT_BYTES + 1), 1, "at most 262144 bytes, got more"),
    "no JSON": (b"not json", 1, "malformed"),
    "fields missing": (b'{"message":"submit"}', 1, "missing required field"),
    "unknown field": (GOOD.replace(b'"base"', b'"more":1,"base"'), 1, "unknown field"),
    "negative": (GOOD.replace(b":3", b":-3"), 1, ">= 0"),
    "NaN": (GOOD.replace(b"{}", b'{"loss":NaN}'), 1, "malformed"),
    "infinity": (GOOD.replace(b"{}", b'{"loss":1e999}'), 1, "out of range"),
    "no lineage": (GOOD.replace(b"world", b"../x"), 1, "lineage id"),
    "unknown message": (b'{"message":"shutdown"}', 0, "Invalid value 'shutdown'"),
    "the gateway's message": (b'{"message":"done"}', 0, "Invalid value 'done'"),
    "another message": (canonical.to_bytes(HELLO), 0, "expected Submit, got Hello"),
    "no file": (GOOD, 0, "expected 1 file descriptors, got 0"),
    "two files": (GOOD, 2, "expected 1 file descriptors, got 2"),
    "as many files as fit": (GOOD, 253, "expected 1 file descriptors, got 253"),
}


@pytest.mark.parametrize("packet", PACKETS)
def test_a_site_that_breaks_the_protocol_loses_its_link(
    region: Region, listener: SiteListener, packet: str
) -> None:
    # given a site with an order
    data, descriptors, words = PACKETS[packet]
    with memory_file() as update:
        before = open_descriptors()
        # when it sends what no site of ours would
        with pytest.raises(FormatError, match=words):
            handed_over(region, listener, lambda c: raw(c, data, [update] * descriptors))
        # then its link is closed and every descriptor that came is closed as well
        assert open_descriptors() == before


def test_the_longest_message_fits(region: Region, listener: SiteListener) -> None:
    # given a message that is exactly as long as allowed
    name = "m" * (SITE_LIMIT_BYTES - len(canonical.to_bytes(SUBMIT)) - len('"":1.0'))
    longest = structs.replace(SUBMIT, metrics={name: 1.0})
    assert len(canonical.to_bytes(longest)) == SITE_LIMIT_BYTES
    # when a site sends it
    with memory_file() as update:
        taken = handed_over(region, listener, lambda c: frames.send(c, longest, [update]))
    # then it arrives whole
    assert isinstance(taken, SubmittedUpdate)
    assert taken.message == longest
    taken.close()


def test_descriptors_that_arrive_are_not_passed_on_to_children(
    region: Region, listener: SiteListener
) -> None:
    # given an update whose descriptor its site would pass on
    with memory_file() as update:
        os.set_inheritable(update, True)
        # when the gateway takes it
        taken = handed_over(
            region, listener, lambda c: raw(c, canonical.to_bytes(SUBMIT), [update])
        )
    # then the gateway's own would not be
    assert isinstance(taken, SubmittedUpdate)
    assert not os.get_inheritable(taken.fd)
    taken.close()


def test_an_evaluation_of_another_candidate_loses_the_link(
    region: Region, listener: SiteListener
) -> None:
    # given a site that is to measure candidate 0
    def serve() -> Evaluated | SiteGone:
        with welcomed(listener) as link:
            return link.evaluate(evaluate(0), model_fd=region.model_fd)

    other = evaluate(1)
    answer = Evaluated(
        lineage="world", round=1, candidate=other.candidate, examples=1, metrics={"accuracy": 1.0}
    )
    gateway = Aside(serve)
    with bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
        assert heard(connection) == WELCOME
        assert heard(connection) == evaluate(0)
        # when it answers about candidate 1
        frames.send(connection, answer)
        # then the answer is not used, and the site is told and out
        with pytest.raises(FormatError, match="expected an evaluation of"):
            gateway.result()
        told = heard(connection)
        assert isinstance(told, Rejected)
        assert told.reason == "site-bad-message"
        assert heard(connection) is None


def test_a_script_that_cannot_evaluate_is_not_asked(region: Region, listener: SiteListener) -> None:
    # given a script that declared no evaluation
    with bare_site(region.socket_path) as connection:
        frames.send(connection, Hello(code=HELLO.code, script="x.py", evaluates=False))
        with welcomed(listener) as link:
            # when the gateway wants one
            with pytest.raises(ConfigError, match=r"x\.py: expected evaluate="):
                link.evaluate(evaluate(), model_fd=region.model_fd)
            # then (above) it learns why there is none; and a round must be in training
            with pytest.raises(ConfigError, match="call train"):
                link.acknowledge()


# ---- who may come -------------------------------------------------------------------------------


def test_a_second_script_is_turned_away_until_the_first_has_gone(
    region: Region, listener: SiteListener
) -> None:
    # given a script that trains
    with bare_site(region.socket_path) as first:
        frames.send(first, HELLO)
        link = welcomed(listener)
        # when another comes, through our library or without a word
        with pytest.raises(Refused) as refusal:
            region.connect()
        with bare_site(region.socket_path) as silent:
            silent.shutdown(socket.SHUT_WR)
            answer = heard(silent)
    # then it is told why, and a third may come when the first has gone
    assert refusal.value.reason == "site-already-connected"
    assert "another script of this region is training" in refusal.value.detail
    assert isinstance(answer, Rejected)
    gone = link.train(train(), model_fd=region.model_fd, update_bytes=28)
    assert isinstance(gone, SiteGone)
    with bare_site(region.socket_path) as third:
        frames.send(third, HELLO)
        with welcomed(listener):
            assert heard(third) == WELCOME


def test_a_script_that_came_and_went_does_not_hold_the_next_one_up(
    region: Region, listener: SiteListener
) -> None:
    # given two that connected and left before the gateway looked, one of them after its hello
    with bare_site(region.socket_path):
        pass
    with bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
    with bare_site(region.socket_path) as third:
        frames.send(third, HELLO)
        # when the gateway takes sites in
        links = [welcomed(listener), welcomed(listener)]
        # then the third gets its welcome
        assert heard(third) == WELCOME
    for link in links:
        link.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"{}", "missing required field"), (canonical.to_bytes(SUBMIT), "expected 1 file")],
)
def test_a_stranger_to_the_protocol_is_told_so(
    region: Region, listener: SiteListener, data: bytes, words: str
) -> None:
    # given something that connects
    waiting = Aside(listener.accept)
    with bare_site(region.socket_path) as connection:
        # when its first word is no hello
        raw(connection, data)
        answer = heard(connection)
        # then it hears what was expected, and the line is closed
        assert isinstance(answer, Rejected)
        assert (answer.reason, words in answer.detail) == ("site-bad-hello", True)
        assert heard(connection) is None
    listener.close()
    assert waiting.result() is None


def test_a_silent_peer_is_dropped_after_a_while(region: Region) -> None:
    # given a gateway that waits for a site
    with SiteListener(region.socket_path, hello_timeout_s=0.05) as listener:
        waiting = Aside(listener.accept)
        with bare_site(region.socket_path) as silent:
            # when a peer connects and says nothing
            answer = heard(silent)
        # then it is given up, and the gateway waits on
        assert answer is None
        listener.close()
        assert waiting.result() is None


def test_a_gateway_may_wait_for_a_site_for_a_while_only(listener: SiteListener) -> None:
    # given nobody who comes
    # when a gateway waits
    came = listener.accept(timeout_s=0.01)
    # then it goes on with nobody
    assert came is None


def test_a_gateway_may_refuse_a_script_for_its_code(region: Region, listener: SiteListener) -> None:
    # given a gateway that does not know this script
    refused = Refused(stage="connect", reason="code-unknown", detail="x" * 10_000)

    def serve() -> None:
        link = listener.accept(timeout_s=20)
        assert link is not None
        with link:
            link.reject(refused)

    gateway = Aside(serve)
    # when it connects
    with pytest.raises(Refused) as refusal:
        region.connect()
    gateway.result()
    # then it is told why, at a length that fits
    assert refusal.value.reason == "code-unknown"
    assert refusal.value.detail == "x" * 4096


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_turned_away(region: Region, listener: SiteListener) -> None:
    # given a socket whose modes somebody has loosened
    region.socket_path.parent.chmod(0o711)
    region.socket_path.chmod(0o666)
    with unix_socket.open_socket() as connection, unix_socket.address(region.socket_path) as place:
        child = os.fork()
        if child == 0:
            turned_away = False
            try:
                # when a process of another user connects
                os.setuid(65534)
                connection.connect(place)
                connection.shutdown(socket.SHUT_WR)
                answer = heard(connection)
                turned_away = isinstance(answer, Rejected) and answer.reason == "site-wrong-user"
            finally:
                # Nothing else of the test may run in this process.
                os._exit(0 if turned_away else 1)
        _, status = os.waitpid(child, 0)
    # then the kernel gave it away, and it was turned away
    assert os.waitstatus_to_exitcode(status) == 0
    assert listener.accept(timeout_s=0) is None


# ---- the place of the socket --------------------------------------------------------------------


def test_the_socket_is_for_this_user_only(region: Region, listener: SiteListener) -> None:
    # given a listening gateway
    # when the modes of its socket and directory are read
    modes = [path.stat().st_mode & 0o777 for path in (region.socket_path, region.home / "run")]
    # then nobody else may open them
    assert modes == [0o600, 0o700]


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    # given a directory that others may enter
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    # when a gateway wants to listen there
    with pytest.raises(ConfigError, match=r"mode 0700, got mode 0755 .* chmod 700 it"):
        SiteListener(directory / "site.sock")
    # then (above) it says what to do


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    # given a file where the socket should be
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    (directory / "site.sock").write_text("keep me")
    # when a gateway wants to listen there
    with pytest.raises(ConfigError, match="move it away"):
        SiteListener(directory / "site.sock")
    # then the file is still there
    assert (directory / "site.sock").read_text() == "keep me"


def test_a_second_gateway_is_refused_and_the_first_goes_on(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway that listens
    # when a second wants to
    with pytest.raises(ConfigError, match="expected no listener"):
        SiteListener(region.socket_path)
    # then the first still takes sites in
    with bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
        link = welcomed(listener)
        assert heard(connection) == WELCOME
        link.close()


def test_the_socket_of_a_killed_gateway_is_replaced(region: Region) -> None:
    # given a gateway process that was killed
    program = (
        "import sys, time; from pathlib import Path\n"
        "from ringfence.net.site_socket import SiteListener\n"
        "listener = SiteListener(Path(sys.argv[1])); print('up', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, region.socket_path], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    assert region.socket_path.is_socket()
    # when another starts
    with SiteListener(region.socket_path) as listener, bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
        # then it takes sites in, and leaves no socket behind
        with welcomed(listener):
            assert heard(connection) == WELCOME
    assert not region.socket_path.exists()


def test_a_home_may_lie_deep(tmp_path: Path) -> None:
    # given a path longer than the 107 bytes that an address holds
    path = tmp_path / ("d" * 100) / ("e" * 100) / "site.sock"
    # when a gateway listens there
    with SiteListener(path) as listener, bare_site(path) as connection:
        frames.send(connection, HELLO)
        # then a site reaches it
        with welcomed(listener):
            assert heard(connection) == WELCOME


# ---- closing ------------------------------------------------------------------------------------


def test_closing_wakes_a_gateway_that_waits_for_a_site(region: Region) -> None:
    # given a gateway thread that waits
    listener = SiteListener(region.socket_path)
    waiting = Aside(listener.accept)
    # when the listener is closed, twice even
    listener.close()
    listener.close()
    # then the thread goes on with nobody, and so does every later wait
    assert waiting.result() is None
    assert listener.accept() is None


def test_closing_a_link_wakes_a_gateway_that_waits_for_an_update(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway thread that waits for a site
    with bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
        link = welcomed(listener)
        waiting = Aside(lambda: link.train(train(), model_fd=region.model_fd, update_bytes=28))
        assert heard(connection) == WELCOME
        assert heard(connection) == train()
        # when the link is closed from another thread
        link.close()
        # then it says that the site is gone, and so does every later question
        assert isinstance(waiting.result(), SiteGone)
        again = link.train(train(), model_fd=region.model_fd, update_bytes=28)
        assert isinstance(again, SiteGone)
        link.done()


def test_closing_drops_who_still_waits_at_the_door(region: Region) -> None:
    # given a site that has connected and was not taken in
    before = open_descriptors()
    with SiteListener(region.socket_path) as listener, bare_site(region.socket_path) as connection:
        frames.send(connection, HELLO)
        # when the listener closes
        listener.close()
        # then the site hears that, and nothing stays open
        assert heard(connection) is None
    assert open_descriptors() == before
