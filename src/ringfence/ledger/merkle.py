"""Merkle trees of RFC 6962: hashes, roots, inclusion and consistency proofs.

A tree is never held whole.  Whoever makes a proof passes a `Read` function that returns the hash
of one complete subtree; a proof reads O(log n) of them.  `level` counts from the leaves: level k,
index i is the subtree over the entries [i·2^k, (i+1)·2^k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from ringfence.core.errors import LogError

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without entries (RFC 6962 §2.1)."""

SIZE_LIMIT = 2**63 - 1
PROOF_LIMIT = 130
"""More hashes than a proof over a tree of fewer than 2^63 entries has, with its two roots."""

Read = Callable[[int, int], bytes]
"""`read(level, index)` returns the hash of one complete subtree that lies inside the tree."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf; the 0x00 keeps leaves and nodes apart (RFC 6962 §2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent (RFC 6962 §2.1)."""
    return sha256(b"\x01" + left + right).digest()


def root(read: Read, size: int) -> bytes:
    """Return the root of the first `size` entries."""
    return _range_hash(read, 0, size) if size else EMPTY_ROOT


def inclusion(read: Read, index: int, size: int) -> list[bytes]:
    """Prove that entry `index` is in the tree of `size` entries, leaf side first.

    Raises: LogError unless 0 <= index < size.
    Source: RFC 6962 §2.1.1, PATH(m, D[n]), as a loop from the root down.
    """
    if not 0 <= index < size <= SIZE_LIMIT:
        raise LogError(f"inclusion: expected an index below the size, got {index} of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_hash(read, middle, end))
            end = middle
        else:
            proof.append(_range_hash(read, start, middle))
            start = middle
    proof.reverse()
    return proof


def consistency(read: Read, old: int, new: int) -> list[bytes]:
    """Prove that the tree of `new` entries begins with the tree of `old` entries.

    The proof is empty when `old` is 0 or equals `new`.
    Raises: LogError unless 0 <= old <= new.
    Source: RFC 6962 §2.1.2, SUBPROOF(m, D[n], b), as a loop from the root down.
    """
    if not 0 <= old <= new <= SIZE_LIMIT:
        raise LogError(f"consistency: expected old <= new, got old {old} and new {new}")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_hash(read, middle, end))
            end = middle
        else:
            proof.append(_range_hash(read, start, middle))
            start = middle
    if start:
        # The old tree is not one complete subtree of the new one, so its last part is not a hash
        # that the verifier already has (b = false in the RFC).
        proof.append(_range_hash(read, start, end))
    proof.reverse()
    return proof


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that `leaf` (a leaf hash) is entry `index` of the tree with `size` and `root`.

    Raises: LogError when it is not.
    Source: RFC 9162 §2.1.3.2.
    """
    _check_hashes("inclusion proof", (leaf, root, *proof))
    if not 0 <= index < size <= SIZE_LIMIT:
        raise LogError(f"inclusion proof: expected an index below size {size}, got {index}")
    position, last, hashed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LogError(f"inclusion proof of entry {index} of {size}: too many hashes")
        if position & 1 or position == last:
            hashed = node_hash(sibling, hashed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise LogError(f"inclusion proof of entry {index} of {size}: too few hashes")
    if hashed != root:
        raise LogError(
            f"inclusion proof of entry {index} of {size}: expected root {root.hex()}, "
            f"got {hashed.hex()}; the entry or the proof is not of this checkpoint"
        )


def verify_consistency(
    *, old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree (`new`, `new_root`) begins with the tree (`old`, `old_root`).

    Raises: LogError when it does not, or the proof does not show it.
    Source: RFC 9162 §2.1.4.2; old = 0 and old = new take an empty proof (C2SP tlog-witness).
    """
    _check_hashes("consistency proof", (old_root, new_root, *proof))
    what = f"consistency proof from {old} to {new}"
    if not 0 <= old <= new <= SIZE_LIMIT:
        raise LogError(f"{what}: expected old <= new")
    if old in (0, new):
        if proof:
            raise LogError(f"{what}: expected no hashes, got {len(proof)}")
        if old_root != (new_root if old == new else EMPTY_ROOT):
            raise LogError(f"{what}: {old_root.hex()} is not the root of {old} entries")
        return
    got_old, got_new = _roots_of_consistency(old, new, old_root, proof, what)
    if got_old != old_root or got_new != new_root:
        raise LogError(
            f"{what}: expected roots {old_root.hex()} and {new_root.hex()}, "
            f"got {got_old.hex()} and {got_new.hex()}; the log was rewritten or the proof is wrong"
        )


def push(peaks: list[bytes], size: int, leaf: bytes) -> None:
    """Add one leaf hash to the peaks (roots of the complete subtrees) of a tree of `size`."""
    hashed = leaf
    while size & 1:
        hashed = node_hash(peaks.pop(), hashed)
        size >>= 1
    peaks.append(hashed)


def peaks_root(peaks: Sequence[bytes]) -> bytes:
    """Return the root of a tree, given its peaks from left to right."""
    if not peaks:
        return EMPTY_ROOT
    hashed = peaks[-1]
    for peak in reversed(peaks[:-1]):
        hashed = node_hash(peak, hashed)
    return hashed


def read_peaks(read: Read, size: int) -> list[bytes]:
    """Return the peaks of the first `size` entries, from left to right."""
    levels = [level for level in range(size.bit_length()) if size >> level & 1]
    return [read(level, (size >> level) - 1) for level in reversed(levels)]


def _split(size: int) -> int:
    """Largest power of two smaller than `size` (RFC 6962 §2.1: k < n <= 2k)."""
    return 1 << (size - 1).bit_length() - 1


def _range_hash(read: Read, start: int, end: int) -> bytes:
    """MTH(D[start:end]) of a range that some split of the tree produced (start is aligned)."""
    peaks: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(read(level, start >> level))
        start += 1 << level
    return peaks_root(peaks)


def _roots_of_consistency(
    old: int, new: int, old_root: bytes, proof: Sequence[bytes], what: str
) -> tuple[bytes, bytes]:
    """Fold a proof with 0 < old < new into the old and the new root."""
    # RFC 9162 §2.1.4.2 step 2: a complete old tree is its own first hash.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise LogError(f"{what}: too few hashes")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    got_old = got_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise LogError(f"{what}: too many hashes")
        if position & 1 or position == last:
            got_old = node_hash(sibling, got_old)
            got_new = node_hash(sibling, got_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            got_new = node_hash(got_new, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise LogError(f"{what}: too few hashes")
    return got_old, got_new


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    if len(hashes) > PROOF_LIMIT:
        raise LogError(f"{what}: expected at most {PROOF_LIMIT} hashes, got {len(hashes)}")
    for hashed in hashes:
        if len(hashed) != HASH_BYTES:
            raise LogError(f"{what}: expected hashes of {HASH_BYTES} bytes, got {len(hashed)}")
