"""A region's settings, `region.toml`, and where everything lies in its home directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ringfence.core import ids
from ringfence.core.errors import ConfigError
from ringfence.core.ids import RegionId

SETTINGS_NAME = "region.toml"
_LIMIT_BYTES = 64 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator sets; relative paths are relative to the home directory.

    region          id of this region in the agreement
    passphrase      where the passphrase of the key files comes from: `file:PATH` or `fd:N`
    database        SQLAlchemy URL of the process's state; empty means SQLite in `state/`
    leaf_s          lifetime in seconds that leaf certificates are asked for, at most 14400
    site_uid        id of the one user whose training script the gateway takes; -1 means its own
    site_socket     where gateway and site meet; empty means `run/site.sock`
    """

    region: str
    passphrase: str = "file:keys/passphrase"  # noqa: S105 (says where it is, is none)
    database: str = ""
    leaf_s: float = 14400.0
    site_uid: int = -1
    site_socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """One region's directory."""

    path: Path
    settings: Settings

    @property
    def region(self) -> RegionId:
        return ids.region_id(self.settings.region)

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def trust(self) -> Path:
        return self.path / "trust"

    @property
    def packs(self) -> Path:
        return self.path / "packs"

    @property
    def approvals(self) -> Path:
        return self.path / "approvals"

    @property
    def agreement(self) -> Path:
        return self.path / "agreement"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def clock(self) -> Path:
        """What the guard of the region's clock remembers (PLAT-CLOCK)."""
        return self.state / "clock.json"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def site(self) -> Path:
        return self.path / "site"

    @property
    def issuer_socket(self) -> Path:
        return self.path / "run" / "issuer.sock"

    @property
    def site_socket(self) -> Path:
        return self.path / (self.settings.site_socket or "run/site.sock")

    @property
    def facts(self) -> Path:
        return self.path / "facts.toml"

    @property
    def catalogue(self) -> Path:
        return self.path / "catalogue.json"

    @property
    def state_file(self) -> Path:
        """The database of a region that names none."""
        return self.state / "state.db"

    def database_url(self) -> str:
        return self.settings.database or f"sqlite:///{self.state_file}"

    def passphrase_source(self) -> str:
        """The passphrase's source with its path made absolute."""
        kind, _, rest = self.settings.passphrase.partition(":")
        return f"file:{self.path / rest}" if kind == "file" else self.settings.passphrase


def open_home(path: Path) -> Home:
    """Read the settings of the region that lives in `path`.

    Raises: ConfigError when the directory or its settings are missing or malformed.
    """
    file = path / SETTINGS_NAME
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}); expected a region's home directory, "
            "such as one that 'ringfence init' makes"
        ) from error
    if len(data) > _LIMIT_BYTES:
        raise ConfigError(f"{file}: expected at most {_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        settings = msgspec.toml.decode(data, type=Settings, strict=True)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}") from error
    ids.region_id(settings.region)
    _check_site(settings, file)
    return Home(path=path.resolve(), settings=settings)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that this user alone may read, whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    scratch.replace(path)


def _check_site(settings: Settings, file: Path) -> None:
    if settings.site_uid < -1:
        raise ConfigError(f"{file}: expected a user's id as site_uid, or -1 for the gateway's own")
    if settings.site_uid >= 0 and not settings.site_socket:
        raise ConfigError(
            f"{file}: site_uid is set, site_socket is not; nobody else may enter this directory, "
            "so name a path outside it, in a directory of its own"
        )
