"""Private keys as encrypted PKCS#8 files, used only through a signer.

A `Signer` is all that the rest of Ringfence sees of a private key, so that a hardware module can
stand behind it later.  Files are mode 0600, written once and never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ringfence.core.errors import ConfigError, FormatError, TrustError

PASSPHRASE_MIN_BYTES = 32
"""The PKCS#8 writer stretches with 2048 rounds only, so the passphrase itself must be random."""

_PASSPHRASE_LIMIT_BYTES = 1024
_KEY_FILE_LIMIT_BYTES = 16 * 1024


class Signer(Protocol):
    """Signs with one private key that its holder never hands out.

    Guarantees: `sign` may be called from several threads at once and either returns a signature
    that `public_key` verifies or raises; `public_key` and `keyid` never change.
    """

    @property
    def public_key(self) -> bytes:
        """Ed25519: the raw 32 bytes.  P-256: SubjectPublicKeyInfo, DER."""

    @property
    def keyid(self) -> str:
        """`sha256:` and the lower-case hex of SHA-256 over `public_key`."""

    def sign(self, message: bytes) -> bytes:
        """Ed25519: 64 bytes (RFC 8032).  P-256: ECDSA with SHA-256, DER (RFC 3279 §2.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Signer:
    """Signs statements, checkpoints, cosignatures and approvals."""

    key: ed25519.Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def keyid(self) -> str:
        return keyid_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class P256Signer:
    """Signs certificates."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.key.curve, ec.SECP256R1):
            raise FormatError(f"expected a P-256 key, got curve {self.key.curve.name}")

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def keyid(self) -> str:
        return keyid_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


def keyid_of(public_key: bytes) -> str:
    """Name of a public key, given as `Signer.public_key` gives it."""
    return "sha256:" + hashlib.sha256(public_key).hexdigest()


def verify_ed25519(public_key: bytes, message: bytes, signature: bytes, *, what: str) -> None:
    """Return when `signature` over `message` holds; raise `TrustError` when it does not."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise TrustError(
            f"{what}: the signature does not hold under key {keyid_of(public_key)}; "
            "take it again from its signer"
        ) from error


def new_passphrase() -> bytes:
    """256 random bits in 43 letters that fit on one line of a file."""
    return secrets.token_urlsafe(32).encode()


def create_ed25519(path: Path, passphrase: bytes) -> Ed25519Signer:
    """Draw an Ed25519 key and write it to the new file `path`.

    Raises: ConfigError when `path` exists or the passphrase is short.
    """
    signer = Ed25519Signer(key=ed25519.Ed25519PrivateKey.generate())
    _write_new(path, _encrypt(signer.key, passphrase))
    return signer


def create_p256(path: Path, passphrase: bytes) -> P256Signer:
    """Draw a P-256 key and write it to the new file `path`; raises as `create_ed25519`."""
    signer = P256Signer(key=ec.generate_private_key(ec.SECP256R1()))
    _write_new(path, _encrypt(signer.key, passphrase))
    return signer


def load_ed25519(path: Path, passphrase: bytes) -> Ed25519Signer:
    """Open an Ed25519 key file.

    Raises: ConfigError when it is missing; TrustError when others may read it, it has another
    owner, or the passphrase does not open it; FormatError when it holds anything else.
    """
    key = _decrypt(path, passphrase)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise FormatError(f"{path}: expected an Ed25519 key, got {type(key).__name__}")
    return Ed25519Signer(key=key)


def load_p256(path: Path, passphrase: bytes) -> P256Signer:
    """Open a P-256 key file; raises as `load_ed25519`."""
    key = _decrypt(path, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FormatError(f"{path}: expected a P-256 key, got {type(key).__name__}")
    return P256Signer(key=key)


def read_passphrase(source: str) -> bytes:
    """Read a passphrase from `fd:N` (read to its end, then closed) or `file:PATH`.

    One newline at the end is dropped.  Raises: ConfigError when the source is malformed, cannot be
    read, or is empty; TrustError when others may read the file.
    """
    kind, _, rest = source.partition(":")
    if kind == "fd" and rest.isascii() and rest.isdecimal():
        data = _read_fd(int(rest))
    elif kind == "file" and rest:
        data = _read_private(Path(rest), what="passphrase file", limit=_PASSPHRASE_LIMIT_BYTES)
    else:
        raise ConfigError(f"passphrase source: expected 'fd:N' or 'file:PATH', got {kind[:16]!r}")
    passphrase = data.removesuffix(b"\n")
    if not passphrase:
        raise ConfigError(f"passphrase from {source}: expected at least one byte, got none")
    if b"\n" in passphrase:
        raise ConfigError(f"passphrase from {source}: expected one line, got more")
    return passphrase


def _read_fd(fd: int) -> bytes:
    try:
        with os.fdopen(fd, "rb") as stream:
            data = stream.read(_PASSPHRASE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"passphrase from fd:{fd}: cannot be read ({error.strerror}); "
            "pass the descriptor to the process open for reading"
        ) from error
    if len(data) > _PASSPHRASE_LIMIT_BYTES:
        raise ConfigError(f"passphrase from fd:{fd}: longer than {_PASSPHRASE_LIMIT_BYTES} bytes")
    return data


def _encrypt(key: PrivateKeyTypes, passphrase: bytes) -> bytes:
    if len(passphrase) < PASSPHRASE_MIN_BYTES:
        raise ConfigError(
            f"passphrase of a new key: expected at least {PASSPHRASE_MIN_BYTES} random bytes, "
            f"got {len(passphrase)}; draw one with `openssl rand -base64 32`"
        )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


def _decrypt(path: Path, passphrase: bytes) -> PrivateKeyTypes:
    pem = _read_private(path, what="key file", limit=_KEY_FILE_LIMIT_BYTES)
    if not pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"):
        raise FormatError(f"{path}: expected an encrypted PKCS#8 key in PEM; encrypt it or move it")
    try:
        return serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # A wrong passphrase and a damaged file look alike under CBC, so one message serves both.
        raise TrustError(
            f"{path}: the passphrase does not open it, or the file is damaged; "
            "check which passphrase the region's settings name"
        ) from error


def _read_private(path: Path, *, what: str, limit: int) -> bytes:
    """Read a file that only its owner, who is us, may read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"{what} {path}: cannot be opened ({error.strerror})") from error
    try:
        # The descriptor is examined, not the path: nobody can swap the file in between.
        _require_private(os.fstat(fd), f"{what} {path}")
        with os.fdopen(fd, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise FormatError(f"{what} {path}: expected at most {limit} bytes")
    return data


def _require_private(status: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise TrustError(f"{what}: expected a regular file")
    if status.st_uid != os.geteuid():
        raise TrustError(
            f"{what}: expected owner uid {os.geteuid()}, got {status.st_uid}; chown it"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode not in (0o600, 0o400):
        raise TrustError(
            f"{what}: expected mode 0600 or 0400, got {mode:04o}; chmod it, and replace the "
            "secret if others may have read it"
        )


def _write_new(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all; refuse to replace anything.

    A crash before the link leaves only a stray temporary file; after it, the complete key.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, 0o600)
            stream.write(data)
            stream.flush()
            os.fsync(fd)
        # link(2) fails where rename(2) would replace, so an existing key always survives.
        os.link(temporary, path)
    except FileExistsError as error:
        raise ConfigError(
            f"key file {path}: already exists and is never overwritten; move it away first"
        ) from error
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
