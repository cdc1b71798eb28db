"""Scripts in an empty network namespace: what they cannot reach, and what they can."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.site.site_world import UPDATE_LAYOUT, Aside, Region, train, welcomed

from ringfence.core.errors import ConfigError
from ringfence.core.site_wire import SubmittedUpdate
from ringfence.net.site_socket import SiteListener
from ringfence.site.connect import code_digest
from ringfence.site.launch import launch

REPORT = """
    import fcntl, json, os, pathlib, socket, struct, sys

    def is_up(interface):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            asked = struct.pack("16sH14x", interface.encode(), 0)
            return bool(struct.unpack("16sH14x", fcntl.ioctl(probe, 0x8913, asked))[1] & 1)

    def status(word):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return [line.split(":")[1].strip() for line in lines if line.startswith(word)]

    report = {
        "arguments": sys.argv[1:],
        "path": sys.path[0],
        "environment": dict(os.environ),
        "descriptors": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 64)
                        if os.path.lexists(f"/proc/self/fd/{fd}")],
        "stdin": os.readlink("/proc/self/fd/0"),
        "interfaces_up": [name for _, name in socket.if_nameindex() if is_up(name)],
        "capabilities": status("CapEff") + status("CapPrm") + status("CapBnd"),
        "no_new_privileges": status("NoNewPrivs"),
        "user": os.getuid(),
    }
    pathlib.Path(os.environ["RINGFENCE_HOME"], "report").write_text(json.dumps(report))
"""


def write_script(region: Region, body: str) -> Path:
    path = region.home / "train.py"
    path.write_text(textwrap.dedent(body))
    return path


def report_of(region: Region, *arguments: str, **options: Any) -> dict[str, Any]:
    """What a launched script sees of its surroundings."""
    script = write_script(region, REPORT)
    status = launch(script, arguments, socket_path=region.socket_path, home=region.home, **options)
    assert status == 0
    found: dict[str, Any] = json.loads((region.home / "report").read_text())
    return found


def status_of(region: Region, body: str, *arguments: str, allow_network: bool = False) -> int:
    return launch(
        write_script(region, body),
        arguments,
        socket_path=region.socket_path,
        home=region.home,
        allow_network=allow_network,
    )


DIAL = """
    import socket, sys
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    except OSError as error:
        sys.exit(error.errno)
"""


@pytest.mark.parametrize(("allow_network", "status"), [(False, 101), (True, 0)])
def test_a_script_reaches_no_port_of_its_own_machine(
    region: Region, allow_network: bool, status: int
) -> None:
    # given a server on this machine
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        # when a script connects to it
        came = status_of(region, DIAL, port, allow_network=allow_network)
    # then only with --allow-network it gets there; else the network is unreachable
    assert came == status


def test_a_script_cannot_send_a_datagram_or_reach_an_abstract_socket(region: Region) -> None:
    # given an abstract Unix socket, which belongs to the network namespace
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0ringfence-test-{os.getpid()}")
        server.listen()
        # when a script tries that, UDP and IPv6
        came = status_of(
            region,
            """
            import errno, socket, sys
            attempts = [
                (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53), errno.ENETUNREACH),
                (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53), errno.ENETUNREACH),
                (socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + sys.argv[1], errno.ECONNREFUSED),
            ]
            if socket.has_ipv6:
                attempts.append((socket.AF_INET6, socket.SOCK_STREAM, ("::1", 53), None))
            for family, kind, address, expected in attempts:
                with socket.socket(family, kind) as probe:
                    came = probe.connect_ex(address)
                    if came == 0 or expected not in (None, came):
                        sys.exit(f"{address}: {came}")
            """,
            f"ringfence-test-{os.getpid()}",
        )
    # then none of them gets through
    assert came == 0


def test_a_script_cannot_go_back_or_raise_its_loopback(region: Region) -> None:
    # given a script that knows where the network is
    # when it tries to enter its launcher's namespace, and to configure its own
    came = status_of(
        region,
        """
        import ctypes, fcntl, os, socket, struct, sys
        libc = ctypes.CDLL(None, use_errno=True)
        for pid in (1, os.getppid()):
            try:
                there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            except OSError:
                continue
            if libc.setns(there, 0) == 0:
                sys.exit("back in the network")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS up
            except PermissionError:
                sys.exit(0)
        sys.exit("the loopback is up")
        """,
    )
    # then neither works
    assert came == 0


def test_a_script_has_no_interface_no_capability_and_nobody_elses_descriptor(
    region: Region,
) -> None:
    # given a launcher that holds an inheritable descriptor
    leak = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(leak, True)
    # when a script looks around
    found = report_of(region, "--epochs", "3")
    os.close(leak)
    # then there is nothing
    assert found["interfaces_up"] == []
    assert {int(mask, 16) for mask in found["capabilities"]} == {0}
    assert found["no_new_privileges"] == ["1"]
    assert found["descriptors"] == []
    assert found["stdin"] == "/dev/null"
    # and it is who it was, with the arguments it was given
    assert found["user"] == os.getuid()
    assert found["arguments"] == ["--epochs", "3"]
    assert found["path"] == str(region.home)


def test_a_script_gets_a_small_environment(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a launcher with a rich environment
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("LANG", raising=False)
    # when a script looks at its own
    found = report_of(region, variables={"CUDA_VISIBLE_DEVICES": "0"})["environment"]
    # then it has what it needs and what it was given
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["MKL_NUM_THREADS"] == "2"
    assert found["LANG"] == "C.UTF-8"
    assert found["RINGFENCE_SOCKET"] == str(region.socket_path)
    assert found["RINGFENCE_CODE"] == code_digest(region.home / "train.py")
    assert set(found) - {"LC_CTYPE"} == {
        "CUDA_VISIBLE_DEVICES",
        "HOME",
        "LANG",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "RINGFENCE_CODE",
        "RINGFENCE_HOME",
        "RINGFENCE_SOCKET",
    }


def test_a_walled_in_script_trains_over_its_gateways_socket(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway
    def serve() -> tuple[str, bytes]:
        with welcomed(listener) as link:
            taken = link.train(
                train(), model_fd=region.model_fd, update_bytes=UPDATE_LAYOUT.size_bytes
            )
            assert isinstance(taken, SubmittedUpdate)
            link.acknowledge()
            payload = taken.values().tobytes()
            taken.close()
            link.done()
            return link.hello.code, payload

    gateway = Aside(serve)
    # when a script without a network runs a round
    came = status_of(
        region,
        """
        import numpy, ringfence
        for round in ringfence.connect().rounds():
            after = {name: numpy.asarray(w + 1) for name, w in round.weights.items()}
            round.submit(after, examples=1)
        """,
    )
    code, payload = gateway.result()
    # then the gateway has its update and knows its code
    assert came == 0
    assert code == code_digest(region.home / "train.py")
    assert np.frombuffer(payload, "<f4").tolist() == [1.0] * 7


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_the_scripts_exit_status_is_handed_on(
    region: Region, body: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    # given a script that ends in some way
    # when it has run
    came = status_of(region, body)
    # then the launcher says how, and its own words went to the terminal
    assert came == status
    assert ("ValueError" in capfd.readouterr().err) == (status == 1)


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    # given no script
    # when it is launched
    with pytest.raises(ConfigError, match="got no such file"):
        launch(tmp_path / "none.py", [], socket_path=tmp_path / "s", home=tmp_path)
    # then (above) it says so


def run_launcher(region: Region, before: str, options: str = "") -> subprocess.Popen[str]:
    """A launcher in a process of its own, which runs `before` first."""
    program = f"""
import os, sys
from pathlib import Path
from ringfence.site import isolation
{before}
from ringfence.site.launch import launch
home = Path(sys.argv[1])
print(launch(home / "train.py", [], socket_path=home / "s", home=home{options}), flush=True)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, region.home],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FORBID = """
isolation._leave_network()  # a user namespace whose limits are ours to set
Path("/proc/sys/user/max_user_namespaces").write_text("0")
"""


def test_a_system_that_forbids_namespaces_is_told_about_allow_network(region: Region) -> None:
    # given a system on which no user namespace may be made
    write_script(region, "print('trained')")
    # when a script is launched there, without and with --allow-network
    with run_launcher(region, FORBID) as walled:
        said, trouble = walled.communicate(timeout=20)
    with run_launcher(region, FORBID, ", allow_network=True") as open_:
        allowed, _ = open_.communicate(timeout=20)
    # then it does not run, and the error says what to do; with the option it does
    assert (said, walled.returncode) == ("", 1)
    assert "ConfigError" in trouble
    assert "expected to start it in an empty network namespace" in trouble
    assert "No space left on device" in trouble
    assert "--allow-network" in trouble
    assert allowed == "trained\n0\n"


def test_a_script_ends_with_its_launcher(region: Region) -> None:
    # given a launcher whose script trains for long
    write_script(
        region,
        """
        import os, signal, time
        print(os.getpid(), flush=True)
        time.sleep(60)
        """,
    )
    with run_launcher(region, "") as process:
        assert process.stdout is not None
        script = os.pidfd_open(int(process.stdout.readline()))
        # when the launcher is killed
        process.kill()
        # then the script is gone as well
        ending = select.poll()
        ending.register(script, select.POLLIN)
        assert ending.poll(20_000)
    os.close(script)
