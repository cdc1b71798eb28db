"""Keys, logs and witnesses for the tests, and a slow Merkle tree straight from the RFC."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.ledger.keys import COSIGNATURE, ED25519, NoteKey, NoteSecret
from ringfence.ledger.log import Log
from ringfence.ledger.notes import sign
from ringfence.ledger.witness import Witness

ORIGIN = "cn.example/log"
NOW_S = 1_795_000_000


def secret(name: str, algorithm: int = ED25519) -> NoteSecret:
    """The private key that belongs to a name, the same in every run."""
    seed = sha256(b"ringfence test key " + name.encode()).digest()
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return NoteSecret(key=NoteKey(name=name, algorithm=algorithm, public_key=public_key), seed=seed)


LOG_SECRET = secret(ORIGIN)
LOG_KEY = LOG_SECRET.key
WITNESSES = tuple(secret(f"{region}.example/witness", COSIGNATURE) for region in ("be", "de", "us"))
WITNESS_KEYS = tuple(witness.key for witness in WITNESSES)


class Salts:
    """Randomness that is the same in every run: the n-th salt is the hash of n."""

    def __init__(self, first: int = 0) -> None:
        self._counter = count(first)

    def __call__(self, size_bytes: int) -> bytes:
        return sha256(b"salt %d" % next(self._counter)).digest()[:size_bytes]


def open_log(directory: Path, *, first_salt: int = 0) -> Log:
    return Log(directory, origin=ORIGIN, signer=LOG_SECRET, randomness=Salts(first_salt))


def content(index: int) -> bytes:
    return b'{"entry":%d}' % index


def contents(first: int, stop: int) -> list[bytes]:
    return [content(index) for index in range(first, stop)]


def cosignature(note: str, witness: NoteSecret, *, time_s: int = NOW_S) -> str:
    text = note[: note.rindex("\n\n") + 1]
    return sign(text, witness.key, witness, time_s=time_s).to_line()


def new_witness(directory: Path, name: str = "us.example/witness") -> Witness:
    return Witness(
        directory=directory,
        log_key=LOG_KEY,
        name=name,
        signer=secret(name, COSIGNATURE),
        clock=lambda: NOW_S + 0.75,
    )


# RFC 6962 §2.1 as it is written there: lists of entries, recursion, no shortcuts.


def slow_root(entries: Sequence[bytes]) -> bytes:
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = _split(len(entries))
    return sha256(b"\x01" + slow_root(entries[:split]) + slow_root(entries[split:])).digest()


def slow_inclusion(index: int, entries: Sequence[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    split = _split(len(entries))
    if index < split:
        return [*slow_inclusion(index, entries[:split]), slow_root(entries[split:])]
    return [*slow_inclusion(index - split, entries[split:]), slow_root(entries[:split])]


def slow_consistency(old: int, entries: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    if old == len(entries):
        return [] if whole else [slow_root(entries)]
    split = _split(len(entries))
    if old <= split:
        return [*slow_consistency(old, entries[:split], whole=whole), slow_root(entries[split:])]
    right = slow_consistency(old - split, entries[split:], whole=False)
    return [*right, slow_root(entries[:split])]


def _split(size: int) -> int:
    split = 1
    while split * 2 < size:
        split *= 2
    return split
