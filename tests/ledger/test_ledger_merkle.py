"""Merkle trees against published vectors and against the RFC's own definitions, done slowly."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.ledger.ledger_world import slow_consistency, slow_inclusion, slow_root

from ringfence.core.errors import LogError
from ringfence.ledger import merkle

# Reference leaves and hashes of certificate-transparency's merkletree tests (cpp, go, python).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSIONS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def reading(entries: list[bytes]) -> merkle.Read:
    """Read complete subtrees by hashing their entries anew each time."""

    def read(level: int, index: int) -> bytes:
        part = entries[index << level : (index + 1) << level]
        assert len(part) == 1 << level, "a proof may read complete subtrees only"
        return slow_root(part)

    return read


def some_entries(size: int) -> list[bytes]:
    return [b"entry %d" % index for index in range(size)]


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_root_is_the_published_one(size: int) -> None:
    # given the first leaves of the published tree
    entries = LEAVES[:size]
    # when it is hashed in each of our ways
    peaks: list[bytes] = []
    for index, entry in enumerate(entries):
        merkle.push(peaks, index, merkle.leaf_hash(entry))
    # then every way gives the published root
    assert merkle.root(reading(entries), size).hex() == ROOTS[size]
    assert merkle.peaks_root(peaks).hex() == ROOTS[size]
    assert merkle.read_peaks(reading(entries), size) == peaks


@pytest.mark.parametrize(("index", "size"), INCLUSIONS)
def test_inclusion_proof_is_the_published_one(index: int, size: int) -> None:
    # when
    proof = merkle.inclusion(reading(LEAVES), index, size)
    # then
    assert [hashed.hex() for hashed in proof] == INCLUSIONS[index, size]


@pytest.mark.parametrize(("old", "new"), CONSISTENCIES)
def test_consistency_proof_is_the_published_one(old: int, new: int) -> None:
    # when
    proof = merkle.consistency(reading(LEAVES), old, new)
    # then
    assert [hashed.hex() for hashed in proof] == CONSISTENCIES[old, new]


@given(st.data())
def test_inclusion_holds_exactly_for_what_is_in_the_tree(data: st.DataObject) -> None:
    # given a tree and a place in it
    entries = some_entries(data.draw(st.integers(1, 80)))
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    # when
    proof = merkle.inclusion(reading(entries), index, size)
    # then it is the RFC's proof, holds for the entry there, and for no other entry or place
    assert proof == slow_inclusion(index, entries)
    root = slow_root(entries)
    for other in range(size):
        leaf = merkle.leaf_hash(entries[other])
        for place in {index, other}:
            if other == place == index:
                merkle.verify_inclusion(leaf=leaf, index=place, size=size, proof=proof, root=root)
                continue
            with pytest.raises(LogError):
                merkle.verify_inclusion(leaf=leaf, index=place, size=size, proof=proof, root=root)


@given(st.data())
def test_altered_inclusion_proof_fails(data: st.DataObject) -> None:
    # given a proof that holds
    entries = some_entries(data.draw(st.integers(1, 80)))
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    proof = slow_inclusion(index, entries)
    # when it is altered
    altered = data.draw(alterations(proof))
    # then it holds no more
    with pytest.raises(LogError):
        merkle.verify_inclusion(
            leaf=merkle.leaf_hash(entries[index]),
            index=index,
            size=size,
            proof=altered,
            root=slow_root(entries),
        )


@given(st.data())
def test_consistency_holds_exactly_between_a_tree_and_its_beginning(data: st.DataObject) -> None:
    # given a tree and one of its beginnings
    entries = some_entries(data.draw(st.integers(1, 80)))
    new = len(entries)
    old = data.draw(st.integers(1, new))
    old_root, new_root = slow_root(entries[:old]), slow_root(entries)
    # when
    proof = merkle.consistency(reading(entries), old, new)
    # then it is the RFC's proof, holds between the two, and not for a beginning with another entry
    assert proof == slow_consistency(old, entries)
    merkle.verify_consistency(old=old, new=new, old_root=old_root, new_root=new_root, proof=proof)
    changed = data.draw(st.integers(0, old - 1))
    other = [*entries[:changed], b"another", *entries[changed + 1 : old]]
    for proof_shown in (proof, slow_consistency(old, [*other, *entries[old:]])):
        with pytest.raises(LogError):
            merkle.verify_consistency(
                old=old,
                new=new,
                old_root=slow_root(other),
                new_root=new_root,
                proof=proof_shown,
            )


@given(st.data())
def test_altered_consistency_proof_fails(data: st.DataObject) -> None:
    # given a proof that holds
    entries = some_entries(data.draw(st.integers(1, 80)))
    old = data.draw(st.integers(1, len(entries)))
    # when it is altered
    altered = data.draw(alterations(slow_consistency(old, entries)))
    # then it holds no more
    with pytest.raises(LogError):
        merkle.verify_consistency(
            old=old,
            new=len(entries),
            old_root=slow_root(entries[:old]),
            new_root=slow_root(entries),
            proof=altered,
        )


@given(st.integers(1, 2**40), st.data())
def test_proofs_read_few_hashes_of_a_large_tree(size: int, data: st.DataObject) -> None:
    # given a tree that nobody could hash
    reads = []

    def read(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size
        reads.append(level)
        return b"\0" * 32

    index = data.draw(st.integers(0, size - 1))
    # when both proofs are made
    merkle.inclusion(read, index, size)
    merkle.consistency(read, index + 1, size)
    # then each read at most two hashes a level
    assert len(reads) <= 4 * size.bit_length()


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 4), (5, 4), (0, 2**63)])
def test_refuses_an_index_outside_the_tree(index: int, size: int) -> None:
    # when both sides are asked, then both refuse
    with pytest.raises(LogError, match="index"):
        merkle.inclusion(reading(LEAVES), index, size)
    with pytest.raises(LogError, match="index"):
        merkle.verify_inclusion(leaf=bytes(32), index=index, size=size, proof=[], root=bytes(32))


def test_refuses_a_tree_that_shrinks() -> None:
    # when both sides are asked, then both refuse
    with pytest.raises(LogError, match="old <= new"):
        merkle.consistency(reading(LEAVES), 3, 2)
    with pytest.raises(LogError, match="old <= new"):
        merkle.verify_consistency(old=3, new=2, old_root=bytes(32), new_root=bytes(32), proof=[])


def test_an_empty_tree_begins_every_tree_without_hashes() -> None:
    # given
    root = slow_root(LEAVES)
    # when
    merkle.verify_consistency(old=0, new=8, old_root=merkle.EMPTY_ROOT, new_root=root, proof=[])
    # then nothing else passes as the empty tree's root or proof
    with pytest.raises(LogError):
        merkle.verify_consistency(old=0, new=8, old_root=root, new_root=root, proof=[])
    with pytest.raises(LogError):
        merkle.verify_consistency(
            old=0, new=8, old_root=merkle.EMPTY_ROOT, new_root=root, proof=[root]
        )


def test_refuses_hashes_of_another_length_and_endless_proofs() -> None:
    # given
    root = slow_root(LEAVES)
    # when, then
    for proof in ([bytes(31)] * 3, [bytes(32)] * 1000):
        with pytest.raises(LogError, match="expected"):
            merkle.verify_inclusion(
                leaf=merkle.leaf_hash(LEAVES[0]), index=0, size=8, proof=proof, root=root
            )


@st.composite
def alterations(draw: st.DrawFn, proof: list[bytes]) -> list[bytes]:
    """Another proof: a flipped bit, a hash more, less or elsewhere."""
    position = draw(st.integers(0, max(len(proof) - 1, 0)))
    kind = draw(st.sampled_from(("flip", "insert", "remove", "swap")))
    if kind == "insert":
        extra = draw(st.sampled_from([*proof, bytes(32)]))
        altered = [*proof[:position], extra, *proof[position:]]
    elif kind == "remove":
        altered = [*proof[:position], *proof[position + 1 :]]
    elif kind == "swap":
        altered = [*proof[position:], *proof[:position]]
    else:
        assume(proof)
        bit = draw(st.integers(0, 255))
        flipped = int.from_bytes(proof[position]) ^ 1 << bit
        altered = [*proof[:position], flipped.to_bytes(32), *proof[position + 1 :]]
    assume(altered != proof)
    return altered
