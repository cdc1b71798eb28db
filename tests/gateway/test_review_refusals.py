"""What a refusal leaves behind: stored bytes, grants, and one line in the log."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.lying import Lying
from tests.places.script import digest_of
from tests.places.world import Place, World

from ringfence.core.errors import Refused
from ringfence.core.site_wire import Evaluated, Submit, Train
from ringfence.gateway.outbound import SiteLeftError


def test_a_refusal_by_the_law_keeps_the_update_to_be_asked_again(world: World) -> None:
    # given a hub whose law says no to the update at first
    de = world.place("de")
    with pytest.raises(Refused):
        de.turn(border=Lying(de.line, offer=_lawful_no))
    # when it is cured
    de.turn()
    # then the bytes that were encoded then are the ones that arrived
    stored = de.gateway.journal.outbound("world", 1)
    assert stored is not None
    assert stored.state == "received"
    assert de.grants() == ["debited"]
    assert sum(isinstance(order, Train) for order in de.script.orders) == 1


def test_any_other_refusal_closes_the_round(world: World) -> None:
    # given a hub that says that the round is over
    de = world.place("de")
    with pytest.raises(Refused):
        de.turn(border=Lying(de.line, offer=_late))
    # when the gateway looks again
    de.turn()
    # then nothing is sent any more
    stored = de.gateway.journal.outbound("world", 1)
    assert stored is not None
    assert stored.state == "refused"
    assert de.line.uploads == []


def test_the_same_refusal_is_recorded_once_a_round(world: World) -> None:
    # given a law that says no before anything is trained
    de = world.place("de")
    _revoke_all(de)
    # when it is asked three times
    for _ in range(3):
        with pytest.raises(Refused):
            de.turn()
    # then the log holds the refusal once
    assert [entry.kind for entry in world.entries("de")].count("refusal") == 1


def test_a_grant_that_no_site_had_is_returned_after_a_crash(world: World) -> None:
    # given a process that died between the reservation and the site
    de = world.place("de")
    de.gateway.journal.reserve(lineage="world", round_=1, parent=digest_of("base"), budget=4)
    # when it starts again
    world.restart_place("de")
    # then nothing is spent
    assert de.grants() == ["returned"]


def test_a_grant_that_a_site_had_is_spent_after_a_crash(world: World) -> None:
    # given a process that died while the site trained
    de = world.place("de")
    de.script.submit = _says_something_else
    with pytest.raises(SiteLeftError):
        de.turn()
    # when it starts again
    world.restart_place("de")
    # then its data was looked at
    assert de.grants() == ["spent"]


def test_a_payload_that_our_law_kept_here_gives_its_grant_back(world: World) -> None:
    # given an update that was encoded, and a law that says no to it until its round is over
    de = world.place("de")
    de.script.submit = lambda message: _without_papers(de, message)
    with pytest.raises(Refused):
        de.turn()
    kept = de.grants()
    # when the next round reserves
    journal = de.gateway.journal
    journal.reserve(lineage="world", round_=2, parent=digest_of("base"), budget=4)
    # then nothing of the first one is spent, and nothing of it is sent later
    assert (kept, de.grants()) == (["handed"], ["returned", "reserved"])
    stored = journal.outbound("world", 1)
    assert stored is not None
    assert stored.state == "refused"


def _without_papers(place: Place, message: Submit) -> Submit:
    """What the site hands over, while counsel revokes everything."""
    _revoke_all(place)
    return message


def _revoke_all(place: Place) -> None:
    for paper in place.home.approvals.glob("*.dsse.json"):
        paper.unlink()
    place.home.facts.write_bytes(b"")


def _says_something_else(message: Submit) -> Evaluated:
    return Evaluated(
        lineage=message.lineage,
        round=message.round,
        candidate=message.base,
        examples=100,
        metrics={},
    )


def _lawful_no(envelope: bytes) -> Any:
    raise Refused(stage="law", reason="law", detail="no", rules=("CN-EXPORT",))


def _late(envelope: bytes) -> Any:
    raise Refused(stage="intake", reason="late", detail="the round is merging")
