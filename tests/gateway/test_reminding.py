"""What a gateway says of its papers between crossings."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.places.world import World

from ringfence.core.errors import ConfigError
from ringfence.crossing.papers import file_name, seal_approval, seal_revocation
from ringfence.crossing.standing import ending
from ringfence.gateway.reminding import remind
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.revocations import Revocation
from ringfence.policy.words import ApprovalType

DAY_S = 86_400.0


@pytest.fixture
def short(world: World) -> Approval:
    """China's filing of encryption-free technology, signed to end in ten days."""
    held = world.place("cn").region.law.approvals()
    paper = next(p for p in held if p.type is ApprovalType.CN_TECH_EXPORT)
    short = replace(paper, expires=float(int(world.clock())) + 10 * DAY_S)
    _sign(world, short)
    return short


def _sign(world: World, approval: Approval) -> None:
    path = world.homes["cn"].approvals / file_name(approval.id)
    path.write_bytes(seal_approval(approval, world.signer("cn", "counsel")))


def test_a_gateway_warns_once_a_day(
    world: World, short: Approval, caplog: pytest.LogCaptureFixture
) -> None:
    # given a paper that ends in ten days
    gateway = world.place("cn").gateway
    caplog.set_level(logging.WARNING)
    # when the gateway looks again and again, today and tomorrow
    for _ in range(3):
        remind(gateway)
    today = [record.getMessage() for record in caplog.records]
    world.clock.now_s += DAY_S
    remind(gateway)
    # then it says so once a day
    assert len(today) == 1
    assert f"{short.id} ends " in today[0]
    assert "in 10 days" in today[0]
    assert len(caplog.records) == 2
    assert "in 9 days" in caplog.records[1].getMessage()


def test_a_gateway_records_a_revocation_while_nothing_is_to_be_decided(
    world: World, short: Approval, caplog: pytest.LogCaptureFixture
) -> None:
    # given a gateway that has said what there is to say today
    gateway = world.place("cn").gateway
    remind(gateway)
    # when the paper is revoked
    revocation = Revocation(
        approval=short.id, holder=short.holder, reason="a new catalogue", at=short.issued
    )
    path = world.homes["cn"].approvals / "x.revoked.dsse.json"
    path.write_bytes(seal_revocation(revocation, world.signer("cn", "counsel")))
    remind(gateway)
    # then its log holds that
    assert [entry.kind for entry in world.entries("cn")][-1] == "revocation"


def test_a_forged_paper_is_said_at_once(world: World) -> None:
    (world.homes["cn"].approvals / "forged.dsse.json").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="forged"):
        remind(world.place("cn").gateway)


@pytest.mark.parametrize(
    ("days", "narrower", "warned"),
    [
        ((5, 200), False, False),  # it follows before the first one ends
        ((10, 200), False, False),  # on the very moment
        ((11, 200), False, True),  # a day without any
        ((5, 20), False, True),  # which ends soon, too
        ((5, 200), True, True),  # for less
    ],
)
def test_nobody_is_warned_of_a_paper_that_another_follows(
    world: World, short: Approval, days: tuple[int, int], narrower: bool, warned: bool
) -> None:
    # given a second paper of the same flow
    now_s = float(int(world.clock()))
    kinds = frozenset([min(short.kinds)]) if narrower else short.kinds
    following = replace(
        short,
        id=ApprovalId("following"),
        kinds=kinds,
        issued=now_s + days[0] * DAY_S,
        expires=now_s + days[1] * DAY_S,
    )
    # when it is asked what ends soon
    near = ending(world.agreement, (short, following), now_s=now_s)
    # then only what nothing follows
    assert (short in near) == warned
