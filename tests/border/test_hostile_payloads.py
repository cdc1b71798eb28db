"""Payloads that are not what their statement said, or not what the agreement allows."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.border.border_world import BorderOf, Certificates, listening
from tests.places.forging import digests_of, sealed, update, write_payload
from tests.places.founding import TENSORS, Founded, Template, digest_of
from tests.places.world import WORLD, World, opened, refused

from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import payload_of, statement_digest
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest
from ringfence.core.terms import Codecs, Tensor, Terms


def _offered(world: World, line_of: BorderOf, path: Path, region: str = "cn") -> Digest:
    """Offer exactly the bytes in `path`; returns the statement's digest."""
    payload = payload_of(digests_of(path.read_bytes()))
    envelope = sealed(world, update(world, region, payload))
    with line_of.line(region) as line:
        line.offer(envelope)
    return statement_digest(envelope)


def _poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset, 0 if offset >= 0 else 2)
        file.write(data)


@pytest.fixture
def payload(world: World, tmp_path: Path) -> Path:
    """A well-formed payload, for a test to spoil."""
    write_payload(world, tmp_path / "payload")
    return tmp_path / "payload"


# ── other bytes than the signed ones ──


@pytest.mark.parametrize("offset", [0, 40, -1], ids=["first byte", "header", "last byte"])
def test_refuses_one_flipped_bit(border: BorderOf, payload: Path, offset: int) -> None:
    # given a payload of which one bit changes on the way
    statement = _offered(border.world, border, payload)
    data = bytearray(payload.read_bytes())
    data[offset] ^= 1
    payload.write_bytes(data)
    # when it is sent, then it is refused, and nothing of it stays
    with border.line() as line, refused(border.world, "payload", at="intake"):
        line.upload(statement, payload, chunk=0)


def test_a_refused_payload_may_be_sent_again_rightly(border: BorderOf, payload: Path) -> None:
    # given a payload that was refused for a flipped bit
    statement = _offered(border.world, border, payload)
    right = payload.read_bytes()
    _poke(payload, -1, b"\x55")
    with border.line() as line:
        with refused(border.world, "payload", at="intake"):
            line.upload(statement, payload, chunk=0)
        # when the signed bytes are sent
        payload.write_bytes(right)
        line.upload(statement, payload, chunk=0)
    # then they count
    assert border.world.place("cn").view().submitted


@pytest.mark.parametrize("change", [-1, 1, 4096], ids=["a byte less", "a byte more", "a page more"])
def test_refuses_another_length_than_announced(
    border: BorderOf, payload: Path, change: int
) -> None:
    # given a payload that is cut, or goes on behind its end
    world = border.world
    statement = _offered(world, border, payload)
    data = payload.read_bytes()
    payload.write_bytes(data[:change] if change < 0 else data + bytes(change))
    before = world.remembered()
    # when it is sent
    with border.line() as line, pytest.raises(FormatError, match="expected a body of"):
        line.upload(statement, payload, chunk=0)
    # then it is refused by its length alone, which is recorded
    entry = world.entries()[-1]
    assert (entry.kind, entry.counterparty) == ("refusal", "cn")
    assert world.remembered() == before


def test_refuses_a_payload_that_nobody_announced(border: BorderOf, payload: Path) -> None:
    # given no statement
    # when a payload is sent, then it is refused
    with border.line() as line, refused(border.world, "not-offered", at="intake"):
        line.upload(Digest(digest_of("no statement")), payload, chunk=0)


def test_refuses_a_payload_for_the_statement_of_another_region(
    border: BorderOf, payload: Path
) -> None:
    # given Germany's statement
    statement = _offered(border.world, border, payload, "de")
    # when China sends the payload for it, then it is refused as if there were none
    with border.line("cn") as line, refused(border.world, "not-offered", at="intake"):
        line.upload(statement, payload, chunk=0)


def test_refuses_a_payload_for_a_round_that_has_closed(border: BorderOf, payload: Path) -> None:
    # given a statement in time, and a round that then closes without its payload
    world = border.world
    statement = _offered(world, border, payload)
    for name in ("de", "us"):
        world.place(name).turn(WORLD)
    world.clock.now_s += 601
    assert advance(world.hub, WORLD)
    # when the payload comes, then it is late before its first byte is read
    with border.line() as line, refused(world, "late", at="intake"):
        line.upload(statement, payload, chunk=0)


def test_refuses_a_payload_for_the_round_before(border: BorderOf, payload: Path) -> None:
    # given a statement for a round that then ended without its payload
    world = border.world
    statement = _offered(world, border, payload)
    for name in ("de", "us"):
        world.place(name).turn(WORLD)
    world.clock.now_s += 601
    assert advance(world.hub, WORLD)
    world.run_to(WORLD, 2, "open")
    # when the payload comes, then it is refused
    with border.line() as line, refused(world, "wrong-round", at="intake"):
        line.upload(statement, payload, chunk=0)


# ── signed, whole, and not of the agreement ──


def _write_header(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"head.weight", b"head.wEight"),
        (b'"shape":[3,8]', b'"shape":[8,3]'),
        (b'"dtype":"F32"', b'"dtype":"I32"'),
        (b"[0,96]", b"[4,96]"),
    ],
    ids=["another name", "another shape", "another type", "other offsets"],
)
def test_refuses_another_layout(border: BorderOf, payload: Path, old: bytes, new: bytes) -> None:
    # given a payload of the agreed length whose header says something else, rightly signed
    _write_header(payload, old, new)
    statement = _offered(border.world, border, payload)
    # when it is sent, then it is refused for what is in it, and not kept
    with border.line() as line, refused(border.world, "content", at="intake"):
        line.upload(statement, payload, chunk=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_numbers_that_are_not_finite(border: BorderOf, payload: Path, value: float) -> None:
    # given one such number among the others, rightly signed
    _poke(payload, -4, struct.pack("<f", value))
    statement = _offered(border.world, border, payload)
    # when it is sent, then it is refused, and the tensor named
    with border.line() as line, refused(border.world, "content", at="intake") as caught:
        line.upload(statement, payload, chunk=0)
    assert "head.bias" in caught.value.detail


def test_a_refused_content_is_no_way_to_a_second_payload(border: BorderOf, payload: Path) -> None:
    # given a payload whose content was refused
    world = border.world
    _poke(payload, -4, struct.pack("<f", np.nan))
    statement = _offered(world, border, payload)
    with border.line() as line:
        with refused(world, "content", at="intake"):
            line.upload(statement, payload, chunk=0)
        # when another one is offered for the round, then it is equivocation
        other = update(world, "cn", write_payload(world, payload, 0.5))
        with refused(world, "equivocation", at="intake"):
            line.offer(sealed(world, other))


# ── int8 ──


@pytest.fixture(scope="module")
def int8_template(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """An agreement in which updates travel as int8."""

    def int8(terms: Terms) -> Terms:
        return replace(terms, codecs=Codecs(updates="int8", releases="int8"))

    return founded.agree(tmp_path_factory.mktemp("int8") / "federation", int8)


@pytest.mark.parametrize(
    "scale",
    [np.nan, np.inf, -1.0, 3e38, -0.0],
    ids=["NaN", "infinite", "negative", "too large", "negative zero"],
)
def test_refuses_a_scale_that_no_encoder_writes(
    int8_template: Template, certificates: Certificates, tmp_path: Path, scale: float
) -> None:
    # given an int8 payload with one such scale, rightly signed
    payload = tmp_path / "payload"
    with (
        opened(int8_template, tmp_path / "federation") as world,
        listening(world, certificates) as border,
    ):
        write_payload(world, payload)
        first_scale = 8 + int.from_bytes(payload.read_bytes()[:8], "little")
        _poke(payload, first_scale, struct.pack("<f", scale))
        statement = _offered(world, border, payload)
        # when it is sent, then it is refused for what is in it
        with border.line() as line, refused(world, "content", at="intake"):
            line.upload(statement, payload, chunk=0)


# ── payloads of several chunks ──

WIDE = (Tensor(name="head.weight", shape=(2300, 1000), dtype="F32", module="head"), *TENSORS[2:])
"""9.2 MB: two whole chunks and a part of one."""


@pytest.fixture(scope="module")
def wide_template(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """An agreement whose updates take three chunks."""

    def wide(terms: Terms) -> Terms:
        modules = {name: terms.modules[name] for name in ("head", "norm")}
        return replace(terms, tensors=WIDE, modules=modules)

    return founded.agree(tmp_path_factory.mktemp("wide") / "federation", wide)


@pytest.fixture
def wide(wide_template: Template, certificates: Certificates, tmp_path: Path) -> Iterator[BorderOf]:
    with (
        opened(wide_template, tmp_path / "wide") as world,
        listening(world, certificates) as border,
    ):
        write_payload(world, tmp_path / "payload", np.linspace(0, 1e-3, 2_300_003))
        yield border


def test_refuses_chunks_in_another_order(wide: BorderOf, tmp_path: Path) -> None:
    # given a payload of three chunks, the first two of which change places
    payload = tmp_path / "payload"
    statement = _offered(wide.world, wide, payload)
    data = payload.read_bytes()
    first, second, rest = (
        data[:CHUNK_BYTES],
        data[CHUNK_BYTES : 2 * CHUNK_BYTES],
        data[2 * CHUNK_BYTES :],
    )
    payload.write_bytes(second + first + rest)
    # when it is sent, then it is refused at the first, and nothing of it stays
    with wide.line() as line, refused(wide.world, "payload", at="intake"):
        line.upload(statement, payload, chunk=0)


@pytest.mark.parametrize("chunk", [1, 2, 3, 999])
def test_refuses_to_start_behind_the_chunk_that_it_asked_for(
    wide: BorderOf, tmp_path: Path, chunk: int
) -> None:
    # given a statement whose first chunk the hub has asked for
    world = wide.world
    statement = _offered(world, wide, tmp_path / "payload")
    before = world.remembered()
    rest = tmp_path / "rest"
    with rest.open("wb") as file:
        file.truncate(1000 * CHUNK_BYTES)  # sparse
    # when a later one is sent first
    with wide.line() as line, pytest.raises(FormatError, match="start at chunk 0"):
        line.upload(statement, rest, chunk=chunk)
    # then the refusal is recorded, and nothing changes
    entry = world.entries()[-1]
    assert (entry.kind, entry.counterparty) == ("refusal", "cn")
    assert world.remembered() == before


def test_a_flipped_bit_costs_only_its_chunk(wide: BorderOf, tmp_path: Path) -> None:
    # given a payload whose third chunk is spoiled on the way
    payload = tmp_path / "payload"
    statement = _offered(wide.world, wide, payload)
    right = payload.read_bytes()
    _poke(payload, -1, b"\x55")
    envelope = wide.world.hub.inbox.submissions(WORLD, 1)[0].envelope
    with wide.line() as line:
        with pytest.raises(Exception, match="differ from the signed digest"):
            line.upload(statement, payload, chunk=0)
        # when the statement is offered again
        reply = line.offer(envelope)
        # then the hub asks for that chunk only
        assert reply.next_chunk == 2
        payload.write_bytes(right)
        line.upload(statement, payload, chunk=2)
    assert wide.world.place("cn").view().submitted
