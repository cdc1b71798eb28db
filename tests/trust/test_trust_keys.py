"""Private keys on disk and the passphrases that open them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ringfence.core.errors import ConfigError, FormatError, TrustError
from ringfence.trust import keys

PASSPHRASE = b"correct horse battery staple, 32 or more"


@pytest.mark.parametrize(
    ("create", "load"),
    [(keys.create_ed25519, keys.load_ed25519), (keys.create_p256, keys.load_p256)],
)
@pytest.mark.parametrize("umask", [0, 0o777])
def test_key_file_gives_back_the_signer_that_made_it(
    create, load, umask: int, tmp_path: Path
) -> None:
    # given a new key in a process whose umask would let everyone read, or nobody
    path = tmp_path / "key.pem"
    before = os.umask(umask)
    try:
        created = create(path, PASSPHRASE)
    finally:
        os.umask(before)
    # when it is loaded
    loaded = load(path, PASSPHRASE)
    # then it is the same key, in a file of its owner, and no other file is left
    assert loaded.public_key == created.public_key
    assert loaded.keyid == created.keyid == keys.keyid_of(created.public_key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_ed25519_signature_holds_for_openssl_too(tmp_path: Path) -> None:
    # given a signature over a message
    signer = keys.create_ed25519(tmp_path / "key.pem", PASSPHRASE)
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "signature").write_bytes(signer.sign(b"message"))
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    # when OpenSSL's own program opens the same key file and verifies
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-inkey", "key.pem"]
    command += ["-passin", "file:passphrase"]
    command += ["-in", "message", "-sigfile", "signature"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # then it agrees
    assert outcome.returncode == 0, outcome.stderr


def test_p256_signature_holds_for_openssl_too(tmp_path: Path) -> None:
    # given a signature and the public key as a file
    signer = keys.create_p256(tmp_path / "key.pem", PASSPHRASE)
    (tmp_path / "signature").write_bytes(signer.sign(b"message"))
    (tmp_path / "public.der").write_bytes(signer.public_key)
    (tmp_path / "message").write_bytes(b"message")
    # when OpenSSL's own program verifies
    command = ["openssl", "dgst", "-sha256", "-verify", "public.der", "-keyform", "DER"]
    command += ["-signature", "signature", "message"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # then it agrees
    assert outcome.returncode == 0, outcome.stderr


def test_verifies_the_published_ed25519_vector_and_no_other_message() -> None:
    # given RFC 8032 §7.1, TEST 2
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    # when it is verified over its message, another one, and under a malformed key
    keys.verify_ed25519(public, b"\x72", signature, what="vector")
    # then only its own message holds
    with pytest.raises(TrustError, match="vector: the signature does not hold"):
        keys.verify_ed25519(public, b"\x73", signature, what="vector")
    with pytest.raises(TrustError):
        keys.verify_ed25519(public[:31], b"\x72", signature, what="vector")


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    # given a key file
    path = tmp_path / "key.pem"
    first = keys.create_ed25519(path, PASSPHRASE)
    # when a second key is to be written there
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.create_p256(path, PASSPHRASE)
    # then the first is still there, alone
    assert keys.load_ed25519(path, PASSPHRASE).keyid == first.keyid
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_key_wants_a_long_passphrase(tmp_path: Path) -> None:
    # given a passphrase that a person made up
    # when a key is made with it
    with pytest.raises(ConfigError, match="at least 32 random bytes, got 6"):
        keys.create_ed25519(tmp_path / "key.pem", b"secret")
    # then nothing was written; and a drawn passphrase is long enough
    assert list(tmp_path.iterdir()) == []
    keys.create_ed25519(tmp_path / "key.pem", keys.new_passphrase())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700, 0o644])
def test_refuses_a_key_file_with_any_other_mode(mode: int, tmp_path: Path) -> None:
    # given a key file that more than its owner may use
    path = tmp_path / "key.pem"
    keys.create_ed25519(path, PASSPHRASE)
    path.chmod(mode)
    # when it is loaded
    # then the error names the mode
    with pytest.raises(TrustError, match=f"got {mode:04o}"):
        keys.load_ed25519(path, PASSPHRASE)


def test_refuses_a_key_file_of_another_owner(tmp_path: Path) -> None:
    # given a file that is not ours: for root one given away, for others one of root's
    path = tmp_path / "key.pem"
    if os.geteuid() == 0:
        keys.create_ed25519(path, PASSPHRASE)
        os.chown(path, 4711, -1)
    else:
        path = Path("/etc/passwd")
    # when it is loaded
    # then the error names both owners
    with pytest.raises(TrustError, match=f"expected owner uid {os.geteuid()}"):
        keys.load_ed25519(path, PASSPHRASE)


def test_refuses_what_is_not_a_key_file(tmp_path: Path) -> None:
    # given a link to a key, a directory, a pipe, and no file
    keys.create_ed25519(tmp_path / "key.pem", PASSPHRASE)
    (tmp_path / "link").symlink_to("key.pem")
    os.mkfifo(tmp_path / "pipe", 0o600)
    # when each is loaded
    # then none is followed, and none makes us wait
    with pytest.raises(ConfigError, match="cannot be opened"):
        keys.load_ed25519(tmp_path / "link", PASSPHRASE)
    with pytest.raises(TrustError, match="regular file"):
        keys.load_ed25519(tmp_path, PASSPHRASE)
    with pytest.raises(TrustError, match="regular file"):
        keys.load_ed25519(tmp_path / "pipe", PASSPHRASE)
    with pytest.raises(ConfigError, match="cannot be opened"):
        keys.load_ed25519(tmp_path / "none", PASSPHRASE)


def test_refuses_another_passphrase_and_a_damaged_file(tmp_path: Path) -> None:
    # given a key file and a copy with one letter changed
    path = tmp_path / "key.pem"
    keys.create_ed25519(path, PASSPHRASE)
    pem = bytearray(path.read_bytes())
    pem[120] = ord("A") if pem[120] != ord("A") else ord("B")
    damaged = _private(tmp_path / "damaged.pem", bytes(pem))
    # when they are opened
    # then neither opens, and neither message tells the passphrase
    for file, passphrase in ((path, PASSPHRASE[:-1]), (damaged, PASSPHRASE)):
        with pytest.raises(TrustError, match="passphrase does not open it") as refusal:
            keys.load_ed25519(file, passphrase)
        assert passphrase.decode() not in str(refusal.value)


def _encrypted(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE),
    )


def _private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def test_refuses_keys_of_another_kind(tmp_path: Path) -> None:
    # given an unencrypted key and encrypted ones of other kinds
    bare = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    p384 = _encrypted(ec.generate_private_key(ec.SECP384R1()))
    rsa2048 = _encrypted(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    ours = _encrypted(ed25519.Ed25519PrivateKey.generate())
    # when they are loaded as something else
    # then the error says what was expected
    for name, data, load, expected in (
        ("bare", bare, keys.load_ed25519, "expected an encrypted PKCS#8 key"),
        ("p384", p384, keys.load_p256, "expected a P-256 key"),
        ("rsa", rsa2048, keys.load_p256, "expected a P-256 key"),
        ("rsa-as-ed25519", rsa2048, keys.load_ed25519, "expected an Ed25519 key"),
        ("ed25519", ours, keys.load_p256, "expected a P-256 key"),
        ("large", b"x" * 20000, keys.load_p256, "expected at most 16384 bytes"),
    ):
        path = _private(tmp_path / name, data)
        with pytest.raises(FormatError, match=expected):
            load(path, PASSPHRASE)


def test_a_signer_never_shows_its_key(tmp_path: Path) -> None:
    # given a signer
    signer = keys.create_ed25519(tmp_path / "key.pem", PASSPHRASE)
    # when it is printed
    # then there is nothing to see
    assert repr(signer) == "Ed25519Signer()"


def test_reads_a_passphrase_from_a_descriptor_and_closes_it() -> None:
    # given a pipe that holds a passphrase and a newline
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE + b"\n")
    os.close(writing)
    # when it is read
    passphrase = keys.read_passphrase(f"fd:{reading}")
    # then the newline is gone and so is the descriptor
    assert passphrase == PASSPHRASE
    with pytest.raises(OSError):
        os.fstat(reading)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_reads_a_passphrase_from_a_private_file(mode: int, tmp_path: Path) -> None:
    # given a file that only its owner reads
    path = _private(tmp_path / "passphrase", PASSPHRASE)
    path.chmod(mode)
    # when it is read
    # then the passphrase comes back
    assert keys.read_passphrase(f"file:{path}") == PASSPHRASE


def test_refuses_a_passphrase_file_that_others_may_read(tmp_path: Path) -> None:
    # given a file that its group may read
    path = _private(tmp_path / "passphrase", PASSPHRASE)
    path.chmod(0o640)
    # when it is read
    # then it is refused
    with pytest.raises(TrustError, match="got 0640"):
        keys.read_passphrase(f"file:{path}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "expected 'fd:N' or 'file:PATH'"),
        ("fd:", "expected 'fd:N'"),
        ("fd:-1", "expected 'fd:N'"),
        ("fd:9999", "cannot be read"),
        ("file:", "expected 'fd:N'"),
        ("env:PASS", "expected 'fd:N'"),
        ("file:/nonexistent", "cannot be opened"),
    ],
)
def test_refuses_a_passphrase_source_that_gives_none(source: str, expected: str) -> None:
    # given a source
    # when it is read
    # then a person learns what to write instead
    with pytest.raises(ConfigError, match=expected):
        keys.read_passphrase(source)


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n"])
def test_refuses_a_passphrase_that_is_empty_or_has_two_lines(
    content: bytes, tmp_path: Path
) -> None:
    # given such a file
    path = _private(tmp_path / "passphrase", content)
    # when it is read
    # then it is refused without being shown
    with pytest.raises(ConfigError, match="expected"):
        keys.read_passphrase(f"file:{path}")


def test_a_descriptor_that_never_stops_is_refused() -> None:
    # given a descriptor with more than a passphrase in it
    fd = os.memfd_create("long")
    os.write(fd, b"x" * 2000)
    os.lseek(fd, 0, os.SEEK_SET)
    # when it is read
    # then no more than the limit was read
    with pytest.raises(ConfigError, match="longer than 1024 bytes"):
        keys.read_passphrase(f"fd:{fd}")
