"""What lies in a region's home, who may read it, and who may come in as its site."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from ringfence.cli.sample import write_sample
from ringfence.config import Home, open_home
from ringfence.core.clock import system_clock
from ringfence.core.errors import ConfigError
from ringfence.core.site_wire import Hello, Rejected, from_gateway
from ringfence.net.site_socket import SiteListener
from ringfence.site import frames, unix_socket

STRANGER = 54321


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    directory = tmp_path_factory.mktemp("sample") / "federation"
    write_sample(directory, clock=system_clock)
    return open_home(directory / "regions" / "cn")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_directory_of_a_home_is_its_owners_alone(home: Home) -> None:
    directories = [home.path, *(path for path in home.path.rglob("*") if path.is_dir())]
    assert {str(path): oct(mode(path)) for path in directories if mode(path) & 0o077} == {}


def test_papers_facts_and_keys_are_read_by_nobody_else(home: Home) -> None:
    private = [
        home.facts,
        *home.approvals.iterdir(),
        *(path for path in home.keys.rglob("*") if path.is_file()),
        *(path for path in home.agreement.rglob("*") if path.is_file()),
    ]
    assert {str(path): oct(mode(path)) for path in private if mode(path) & 0o077} == {}


def test_no_process_of_a_region_holds_the_keys_of_root_and_counsel(home: Home) -> None:
    offline = home.keys / "offline"
    assert sorted(path.name for path in offline.iterdir()) == ["counsel.key", "root.key"]
    assert not {"counsel.key", "root.key"}.intersection(p.name for p in home.keys.iterdir())


def test_a_site_of_another_user_is_let_in_by_name_and_nobody_else_is(tmp_path: Path) -> None:
    # given a gateway that takes scripts of one other user, started twice
    path = tmp_path / "meeting" / "site.sock"
    SiteListener(path, site_uid=STRANGER).close()
    with SiteListener(path, site_uid=STRANGER):
        # then the kernel lets that user in, and only in
        assert named_users(path) == {STRANGER: 6}
        assert named_users(path.parent) == {STRANGER: 1}
        for place in (path, path.parent):
            assert mode(place) & 0o007 == 0
        # when a script of our own user comes
        hello = Hello(code="sha256:" + "0" * 64, script="train.py", evaluates=False)
        with unix_socket.open_socket() as connection, unix_socket.address(path) as place_name:
            connection.connect(place_name)
            frames.send(connection, hello)
            received = frames.receive(connection, from_gateway)
    # then it is told who is expected
    assert received is not None
    message, _ = received
    assert isinstance(message, Rejected)
    assert (message.reason, str(STRANGER) in message.detail) == ("site-wrong-user", True)


def test_a_site_of_our_own_user_needs_no_access_list(tmp_path: Path) -> None:
    path = tmp_path / "meeting" / "site.sock"
    with SiteListener(path, site_uid=os.geteuid()) as listener:
        with unix_socket.open_socket() as connection, unix_socket.address(path) as place_name:
            connection.connect(place_name)
            hello = Hello(code="sha256:" + "0" * 64, script="train.py", evaluates=False)
            frames.send(connection, hello)
            link = listener.accept(timeout_s=10)
            assert link is not None
            link.close()
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("site_uid = 1001", "site_socket is not"),
        ('site_uid = -2\nsite_socket = "/run/x/site.sock"', "expected a user's id"),
    ],
)
def test_settings_that_would_let_a_site_in_halfway_are_refused(
    tmp_path: Path, lines: str, problem: str
) -> None:
    (tmp_path / "region.toml").write_text(f'region = "cn"\n{lines}\n')
    with pytest.raises(ConfigError, match=problem):
        open_home(tmp_path)


def test_the_site_socket_may_lie_outside_the_home(tmp_path: Path) -> None:
    (tmp_path / "region.toml").write_text(
        'region = "cn"\nsite_uid = 1001\nsite_socket = "/run/ringfence/site.sock"\n'
    )
    assert open_home(tmp_path).site_socket == Path("/run/ringfence/site.sock")


def named_users(path: Path) -> dict[int, int]:
    """Permissions of the users that a path's access list names (acl(5))."""
    data = os.getxattr(path, "system.posix_acl_access")
    entries = struct.iter_unpack("<HHI", data[4:])
    return {uid: permissions for tag, permissions, uid in entries if tag == 0x02}
