"""Lets one other user of this machine reach a path of ours: a POSIX access list with one name."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from pathlib import Path

from ringfence.core.errors import ConfigError

ENTER = 1
"""Walk through a directory, without listing or changing it."""

CONNECT = 6
"""Read and write, which connecting to a Unix socket needs (unix(7))."""

_ATTRIBUTE = "system.posix_acl_access"
# Version 2 of the list, then entries of tag, permissions and id: linux/posix_acl_xattr.h, acl(5).
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY = 0xFFFFFFFF


def grant(path: Path, *, uid: int, permissions: int) -> None:
    """Give user `uid` exactly `permissions` on `path`; its owner keeps its own, all others none.

    Raises: ConfigError when the file system keeps no access lists.
    """
    owner = stat.S_IMODE(path.stat().st_mode) >> 6
    entries = (
        (_OWNER, owner, _NOBODY),
        (_USER, permissions, uid),
        (_GROUP, 0, _NOBODY),
        (_MASK, permissions, _NOBODY),
        (_OTHER, 0, _NOBODY),
    )
    try:
        os.setxattr(path, _ATTRIBUTE, _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot let user {uid} reach it ({error.strerror}); name a site_socket on a "
            "file system with access lists, such as ext4, xfs or tmpfs"
        ) from error


def withdraw(path: Path) -> None:
    """Take back what `grant` gave, if it gave anything: the owner's permissions are left."""
    with contextlib.suppress(OSError):
        os.removexattr(path, _ATTRIBUTE)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
