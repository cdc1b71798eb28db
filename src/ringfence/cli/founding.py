"""Founds a region: its directory, keys, certificates, and what the agreement says of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from ringfence.config import SETTINGS_NAME, Home, open_home
from ringfence.core.clock import Clock
from ringfence.core.errors import ConfigError
from ringfence.core.terms import DataClass, Hardware, Party
from ringfence.ledger.notes import log_key, witness_key
from ringfence.policy.packs import copy_default_packs
from ringfence.trust.certificates import create_issuer, create_root
from ringfence.trust.encoding import to_der, to_pem
from ringfence.trust.keys import create_ed25519, create_p256, new_passphrase

_PARTS = (
    "keys",
    "keys/offline",
    "trust",
    "packs",
    "approvals",
    "agreement",
    "state",
    "run",
    "site",
)

_SETTINGS = """\
# Settings of one region; relative paths are relative to this directory.

# The region's id in the agreement.
region = "{id}"

# Where the passphrase of the key files comes from: file:PATH (mode 0600) or fd:N.
passphrase = "file:keys/passphrase"

# SQLAlchemy URL of the process's state; empty means SQLite in state/.
database = ""

# Lifetime in seconds that TLS leaf certificates are asked for; at most 14400 (four hours).
leaf_s = 14400.0

# The one user whose training script the gateway takes; -1 means the gateway's own user.  For
# another user name a socket outside this directory, and give that user a directory of its own with
# a region.toml that holds `region` and the same `site_socket`.
site_uid = -1
site_socket = ""
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """What a person decides about a new region; `examples` is its catalogue's training count."""

    id: str
    jurisdiction: str
    operator: str
    parent: str
    trust_domain: str
    data_classes: tuple[DataClass, ...] = ()
    hardware: Hardware = "unknown"
    examples: int = 0


def found_region(path: Path, founding: Founding, *, clock: Clock) -> tuple[Home, Party]:
    """Make a region's home in `path` and return it with what the agreement must say of it.

    The keys of the offline root and of counsel lie in `keys/offline/`, which no process of the
    region reads: take it away from the machine once the issuer is certified.
    Raises: ConfigError when `path` already holds a region.
    """
    if (path / SETTINGS_NAME).exists():
        raise ConfigError(f"{path}: holds a region already; choose another directory")
    path.mkdir(parents=True, exist_ok=True)
    for directory in (path, *(path / part for part in _PARTS)):
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
    passphrase = new_passphrase()
    secret = path / "keys" / "passphrase"
    secret.touch(mode=0o600, exist_ok=False)
    secret.write_bytes(passphrase + b"\n")
    keys = path / "keys"
    root_signer = create_p256(keys / "offline" / "root.key", passphrase)
    issuer_signer = create_p256(keys / "issuer.key", passphrase)
    statement = create_ed25519(keys / "statement.key", passphrase)
    log = create_ed25519(keys / "log.key", passphrase)
    witness = create_ed25519(keys / "witness.key", passphrase)
    counsel = create_ed25519(keys / "offline" / "counsel.key", passphrase)
    release = create_p256(keys / "release.key", passphrase)
    (path / "trust" / "release.pub").write_bytes(_public_pem(release.public_key))
    now_s = clock()
    root = create_root(root_signer, trust_domain=founding.trust_domain, now_s=now_s)
    issuer = create_issuer(
        root_signer,
        root,
        public_key=issuer_signer.public_key,
        trust_domain=founding.trust_domain,
        now_s=now_s,
    )
    (path / "trust" / "root.pem").write_bytes(to_pem(root))
    (path / "trust" / "issuer.pem").write_bytes(to_pem(issuer))
    copy_default_packs(path / "packs")
    (path / SETTINGS_NAME).write_text(_SETTINGS.format(id=founding.id))
    party = Party(
        id=founding.id,
        jurisdiction=founding.jurisdiction,
        operator=founding.operator,
        parent=founding.parent,
        trust_domain=founding.trust_domain,
        root=_base64(to_der(root)),
        statement_key=_base64(statement.public_key),
        log_key=log_key(f"{founding.trust_domain}/log", log).to_text(),
        witness_key=witness_key(f"{founding.trust_domain}/witness", witness).to_text(),
        counsel_keys=(_base64(counsel.public_key),),
        data_classes=founding.data_classes,
        hardware=founding.hardware,
        examples=founding.examples,
    )
    return open_home(path), party


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _public_pem(public_key: bytes) -> bytes:
    """PEM of a SubjectPublicKeyInfo, which `model_signing verify key` reads."""
    text = base64.encodebytes(public_key).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n".encode()
