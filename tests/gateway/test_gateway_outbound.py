"""The way of one update through crashes, cuts, a changing law and receipts that lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.gateway.lying import Lying
from tests.places.founding import Founded, digest_of
from tests.places.world import US_MARKET, WORLD, Place, World, opened, refused

from ringfence.cli.auditing import verify_home
from ringfence.core.artifacts import receipt_from_bytes, receipt_to_bytes
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import BorderDownError, Refused
from ringfence.core.site_wire import Train
from ringfence.core.terms import Budget, Terms
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE, open_own
from ringfence.gateway.journal import Outbound
from ringfence.trust.dsse import open_envelope, seal


class Died(BaseException):
    """The process is killed: nothing in it catches this."""


def _stored(place: Place, round_: int = 1) -> Outbound:
    stored = place.gateway.journal.outbound(WORLD, round_)
    assert stored is not None
    return stored


def _trained(place: Place) -> int:
    """How often the site was asked to train."""
    return sum(isinstance(order, Train) for order in place.script.orders)


def _intents(world: World, name: str) -> list[str]:
    return [entry.subject for entry in world.entries(name) if entry.kind == "intent"]


def _dies(*_: Any, **__: Any) -> Any:
    raise Died


def _cut(*_: Any, **__: Any) -> Any:
    raise BorderDownError("the line was cut")


# ── the order of the steps ──


def test_the_intent_is_in_the_log_and_the_grant_debited_before_a_byte_leaves(
    world: World,
) -> None:
    # given a hub that looks at the region's books at the moment of the offer
    de = world.place("de")
    seen: list[tuple[list[str], list[str]]] = []

    def offer(envelope: bytes) -> Any:
        seen.append(([entry.kind for entry in world.entries("de")], de.grants()))
        return de.line.offer(envelope)

    # when an update crosses
    de.turn(border=Lying(de.line, offer=offer))
    # then both were there
    ((kinds, grants),) = seen
    assert kinds[-1] == "intent"
    assert grants == ["debited"]


def test_nothing_is_trained_without_a_lawful_way_out(world: World) -> None:
    # given a region whose papers were all revoked
    cn = world.place("cn")
    cn.home.facts.write_text("revoked = []\n")
    for paper in cn.home.approvals.glob("*.dsse.json"):
        paper.unlink()
    # when a round opens
    with pytest.raises(Refused) as caught:
        cn.turn()
    # then its site was not asked, and nothing is reserved
    assert caught.value.stage == "law"
    assert _trained(cn) == 0
    assert cn.grants() == []


# ── budget ──


def test_a_used_up_budget_ends_training(founded: Founded, tmp_path: Path) -> None:
    # given an agreement that lets each catalogue give one update
    def once(terms: Terms) -> Terms:
        return replace(terms, budget=Budget(updates=1))

    template = founded.agree(tmp_path / "template", once)
    with opened(template, tmp_path / "federation") as world:
        us = world.place("us")
        us.turn(WORLD)
        # when the other lineage asks for one as well, then it gets none, and the site is not asked
        us.turn(WORLD)
        before = _trained(us)
        with pytest.raises(Refused) as caught:
            us.turn(US_MARKET)
        assert (caught.value.stage, caught.value.reason) == ("preflight", "budget-exhausted")
        assert _trained(us) == before
        assert us.grants() == ["debited"]
        assert [e.refusal.reason for e in world.entries("us") if e.refusal] == ["budget-exhausted"]


# ── crashes ──


@pytest.mark.parametrize("at", ["offer", "upload"])
def test_a_process_that_dies_while_sending_goes_on_with_the_same_bytes(
    world: World, at: str
) -> None:
    # given a process that is killed while its update leaves
    de = world.place("de")
    with pytest.raises(Died):
        de.turn(border=Lying(de.line, **{at: _dies}))
    before = _stored(de)
    # when it starts again
    de = world.restart_place("de")
    de.turn()
    # then the same payload crossed under the same statement, and the site was asked once
    after = _stored(de)
    assert (after.state, before.state) == ("received", "recorded")
    assert after.encoding == before.encoding
    assert after.envelope == before.envelope
    assert _trained(de) == 1
    assert de.grants() == ["debited"]
    assert len(_intents(world, "de")) == 1


def test_a_process_that_dies_before_the_intent_goes_on_with_the_same_bytes(world: World) -> None:
    # given a process that is killed between the encoding and the law's answer about it
    de = world.place("de")
    true_law = de.region.law

    def approvals() -> Any:
        if de.gateway.journal.outbound(WORLD, 1) is not None:
            raise Died
        return true_law.approvals()

    dying = dataclasses.replace(true_law, approvals=approvals)
    de.gateway = dataclasses.replace(de.gateway, region=dataclasses.replace(de.region, law=dying))
    with pytest.raises(Died):
        de.turn()
    before = _stored(de)
    assert (before.state, before.envelope) == ("encoded", None)
    # when it starts again
    de = world.restart_place("de")
    de.turn()
    # then what was encoded then has crossed
    assert _stored(de).encoding == before.encoding
    assert _trained(de) == 1
    assert de.grants() == ["debited"]


def test_a_receipt_lost_in_a_crash_is_asked_for_again(world: World) -> None:
    # given a process that is killed with the receipt on its way
    de = world.place("de")

    def upload(*asked: Any, **how: Any) -> bytes:
        de.line.upload(*asked, **how)
        raise Died

    with pytest.raises(Died):
        de.turn(border=Lying(de.line, upload=upload))
    # when it starts again and looks
    de = world.restart_place("de")
    assert de.view().submitted
    de.turn()
    # then nothing is sent twice
    assert _trained(de) == 1
    assert [e.kind for e in world.entries()].count("arrival") == 1


# ── cuts ──


def test_after_a_cut_the_same_bytes_go_on(world: World) -> None:
    # given a line that is cut twice while the payload crosses
    de = world.place("de")
    for _ in range(2):
        with pytest.raises(BorderDownError):
            de.turn(border=Lying(de.line, upload=_cut))
    before = _stored(de)
    # when it holds
    de.turn()
    # then what was encoded first has arrived
    assert _stored(de).encoding == before.encoding
    assert _trained(de) == 1
    assert len(_intents(world, "de")) == 1


# ── lost bytes ──


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [_flip, lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink]
)
def test_a_damaged_payload_forfeits_the_round_and_is_never_encoded_again(
    world: World, damage: Callable[[Path], object]
) -> None:
    # given a stored payload that is damaged while the border is down
    de = world.place("de")
    with pytest.raises(BorderDownError):
        de.turn(border=Lying(de.line, offer=_cut))
    encoding = _stored(de).encoding
    assert encoding is not None
    damage(de.gateway.spool.payload(encoding.payload.digest))
    de = world.restart_place("de")
    # when the gateway goes on
    with pytest.raises(Refused) as caught:
        de.turn()
    # then the round is forfeited, the grant stays debited, and it stays so
    assert caught.value.reason == "payload-lost"
    assert _stored(de).state == "forfeited"
    assert de.grants() == ["debited"]
    de.turn()
    assert _trained(de) == 1
    assert de.line.uploads == []
    assert not de.view().submitted


# ── the law in between ──


def test_an_expired_verdict_is_asked_for_again(world: World) -> None:
    # given an update whose offer was cut, and an hour in which its verdict ran out
    de = world.place("de")
    with pytest.raises(BorderDownError):
        de.turn(border=Lying(de.line, offer=_cut))
    before = _stored(de)
    world.clock.now_s += 3601
    # when the border is up again
    de.turn()
    # then the same payload crossed under a new statement, whose intent is recorded as well
    after = _stored(de)
    assert after.state == "received"
    assert after.encoding == before.encoding
    assert after.envelope != before.envelope
    assert len(_intents(world, "de")) == 2
    assert after.envelope is not None
    declared = open_own(de.region, after.envelope)
    assert declared.issued == to_rfc3339(world.clock())
    assert declared.verdict.valid_until > declared.issued


def test_a_revoked_approval_stops_the_next_crossing(world: World) -> None:
    # given China's update, cut on its way, and an approval that is revoked meanwhile
    cn = world.place("cn")
    with pytest.raises(BorderDownError):
        cn.turn(border=Lying(cn.line, upload=_cut))
    papers = [paper.id for paper in cn.region.law.approvals() if "cac" in paper.type]
    assert papers
    _revoke(cn, papers)
    # when the gateway would go on, then its own law stops it, by name
    with refused(
        world, "law", at="law", by="cn", counterparty="hub", rules=("CN-AUTO-2026",)
    ) as caught:
        cn.turn()
    assert caught.value.rules
    assert not cn.view().submitted


def _revoke(place: Place, papers: list[Any]) -> None:
    facts = place.home.facts
    revoked = ", ".join(f'"{paper}"' for paper in papers)
    facts.write_text(facts.read_text().replace("revoked = []", f"revoked = [{revoked}]"))


# ── receipts that are not what they say ──


def _resealed(world: World, receipt: bytes, *, signer: str = "hub", **changes: str) -> bytes:
    note = receipt_from_bytes(
        open_envelope(
            receipt,
            public_key=world.signer("hub").public_key,
            payload_type=STATEMENT_PAYLOAD_TYPE,
            limit_bytes=10**6,
            what="receipt",
        )
    )
    return seal(
        receipt_to_bytes(replace(note, **changes)),
        payload_type=STATEMENT_PAYLOAD_TYPE,
        signer=world.signer(signer),
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-statement", {"statement": digest_of("another statement")}),
        ("wrong-payload", {"payload": digest_of("another payload")}),
        ("wrong-recipient", {"sender": "cn"}),
        ("wrong-recipient", {"recipient": "us"}),
    ],
)
def test_refuses_a_receipt_for_something_else(
    world: World, reason: str, changes: dict[str, str]
) -> None:
    # given a hub whose receipt names something else
    de = world.place("de")

    def upload(*asked: Any, **how: Any) -> bytes:
        return _resealed(world, de.line.upload(*asked, **how), **changes)

    # when the update has crossed
    with pytest.raises(Refused) as caught:
        de.turn(border=Lying(de.line, upload=upload))
    # then the receipt is refused, recorded, and the log holds no receipt
    assert (caught.value.stage, caught.value.reason) == ("receipt", reason)
    kinds = [entry.kind for entry in world.entries("de")]
    assert (kinds.count("refusal"), kinds.count("receipt")) == (1, 0)
    _verifies(world, "de")


def test_refuses_a_receipt_in_another_hand(world: World) -> None:
    # given a receipt in the hub's name that China signed
    de = world.place("de")

    def upload(*asked: Any, **how: Any) -> bytes:
        return _resealed(world, de.line.upload(*asked, **how), signer="cn")

    # when the update has crossed, then it does not count
    with pytest.raises(Exception, match="expected a signature by key"):
        de.turn(border=Lying(de.line, upload=upload))
    assert "receipt" not in [entry.kind for entry in world.entries("de")]
    _verifies(world, "de")


def test_a_hub_that_wants_neither_payload_nor_says_that_it_has_it_is_no_hub(
    world: World,
) -> None:
    # given a hub that answers an offer with nothing
    de = world.place("de")

    def offer(envelope: bytes) -> Any:
        return replace(de.line.offer(envelope), next_chunk=None, receipt=None)

    # when an update is offered, then the answer is not believed
    with pytest.raises(Exception, match="a chunk to start at or a receipt"):
        de.turn(border=Lying(de.line, offer=offer))
    assert _stored(de).state == "recorded"


def _verifies(world: World, name: str) -> None:
    world.place(name).region.log.checkpoint()
    verify_home(world.homes[name].path, judged=True)
