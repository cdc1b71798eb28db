"""Whatever stands in a statement: hub and gateway take it or refuse it, and never stumble.

Statements are signed with the real key, so that nothing but their content is left to refuse.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.gateway.lying import Lying
from tests.places.forging import measurement, update, write_payload
from tests.places.founding import Template, digest_of, swift_directory
from tests.places.world import WORLD, World, opened

from ringfence.cli.auditing import verify_home
from ringfence.core.artifacts import Declaration, declaration_to_bytes, statement_digest
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, RegionId
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE, open_own
from ringfence.gateway.inbound import take_candidate
from ringfence.gateway.snapshots import take_snapshot
from ringfence.trust.dsse import seal
from ringfence.trust.keys import Signer

Json = dict[str, Any]

_EDGES = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 10**40, 1.5, -0.0, 1e308),
        *("", "cn", "world", "us-market", "CN", "sha256:", digest_of("x"), "x" * 100_000, "\0"),
        *("é", "2026-11-20T09:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "float32"),
        *([], {}, [[]], [None], ["CN", "EU", "US"], {"accuracy": 1e308}, {"": 0}),
    ]
)
_NAMES = st.sampled_from((*Declaration.__struct_fields__, "unknown"))
_INSIDE = st.sampled_from(["digest", "size_bytes", "chunks", "packs", "approvals", "valid_until"])
CHANGES = st.lists(st.tuples(_NAMES, st.none() | _INSIDE, _EDGES), min_size=1, max_size=3)
FUZZ = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _changed(declared: Declaration, changes: list[tuple[str, str | None, Any]]) -> bytes:
    """The statement's bytes with some fields replaced by something else."""
    statement: Json = json.loads(declaration_to_bytes(declared))
    for name, inside, edge in changes:
        value = copy.deepcopy(edge)
        part: Any = statement["predicate"]
        if inside is not None and isinstance(part.get(name), dict):
            part[name][inside] = value
        elif isinstance(value, str) and name == "unknown":
            statement[value[:20]] = value
        else:
            part[name] = value
    return json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()


def _sealed(data: bytes, signer: Signer) -> bytes:
    return seal(data, payload_type=STATEMENT_PAYLOAD_TYPE, signer=signer)


@pytest.fixture(scope="module")
def waiting(
    evaluating_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A hub whose candidate waits to be measured; at the end its log must hold."""
    with (
        swift_directory(tmp_path_factory.mktemp("waiting")) as directory,
        opened(evaluating_template, directory / "federation") as world,
    ):
        yield world
        world.hub.region.log.checkpoint()
        verify_home(world.homes["hub"].path, judged=True)


@pytest.fixture(scope="module")
def collecting(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub whose rounds take updates; at the end its log must hold."""
    with (
        swift_directory(tmp_path_factory.mktemp("collecting")) as directory,
        opened(template, directory / "federation") as world,
    ):
        yield world
        world.hub.region.log.checkpoint()
        verify_home(world.homes["hub"].path, judged=True)


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("payload") / "payload"


@given(CHANGES)
@FUZZ
def test_the_hub_takes_or_refuses_any_update(
    collecting: World, payload: Path, changes: list[tuple[str, str | None, Any]]
) -> None:
    # given an update with anything in its fields
    declared = update(collecting, "cn", write_payload(collecting, payload))
    envelope = _sealed(_changed(declared, changes), collecting.signer("cn"))
    # when it is offered, then the hub says yes or no
    with contextlib.suppress(Refused):
        reply = collecting.service.offer(RegionId("cn"), envelope)
        assert reply.next_chunk == 0


@given(CHANGES)
@FUZZ
def test_the_hub_takes_or_refuses_any_measurement(
    waiting: World, changes: list[tuple[str, str | None, Any]]
) -> None:
    # given a measurement with anything in its fields
    declared = measurement(waiting, "cn", accuracy=50.0)
    envelope = _sealed(_changed(declared, changes), waiting.signer("cn"))
    # when it is offered, then the hub says yes or no
    with contextlib.suppress(Refused):
        reply = waiting.service.offer(RegionId("cn"), envelope)
        assert reply.receipt is not None


@given(CHANGES)
@FUZZ
def test_a_gateway_takes_or_refuses_any_candidate(
    waiting: World, changes: list[tuple[str, str | None, Any]]
) -> None:
    # given a candidate with anything in its fields
    de = waiting.place("de")
    true = de.line.statement(Digest(de.view().candidate or ""))
    declared = open_own(waiting.hub.region, true)
    envelope = _sealed(_changed(declared, changes), waiting.signer("hub"))
    view = replace(de.view(), candidate=statement_digest(envelope))
    de.gateway.refusals.clear()
    # when it is shown, then the gateway takes it as it was meant, or refuses it
    try:
        held = take_candidate(de.gateway, view, Lying(de.line, statement=lambda digest: envelope))
    except Refused:
        assert waiting.entries("de")[-1].kind == "refusal"
    else:
        assert held.model == declared.model


@given(CHANGES)
@FUZZ
def test_a_gateway_takes_or_refuses_any_snapshot(
    collecting: World, changes: list[tuple[str, str | None, Any]]
) -> None:
    # given a snapshot with anything in its fields
    us = collecting.place("us")
    declared = open_own(collecting.hub.region, us.line.snapshot(WORLD))
    envelope = _sealed(_changed(declared, changes), collecting.signer("hub"))
    us.gateway.refusals.clear()
    # when it is shown, then the gateway takes it as it was meant, or refuses it
    try:
        take_snapshot(us.gateway, us.view(), Lying(us.line, snapshot=lambda lineage: envelope))
    except Refused:
        assert collecting.entries("us")[-1].kind == "refusal"
    else:
        base = us.gateway.models.admitted(WORLD)
        assert base is not None
        assert base.model == collecting.agreement.lineage(WORLD).start.model
