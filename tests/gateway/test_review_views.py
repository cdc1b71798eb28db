"""What a gateway believes of the hub's view of a lineage, and what keeps it running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.gateway.lying import Lying, showing
from tests.places.script import digest_of
from tests.places.world import US_MARKET, WORLD, Place, World, refused

from ringfence.core.errors import BorderDownError, Fault, ForkError, FormatError, TrustError
from ringfence.core.site_wire import Train
from ringfence.core.wire import LineageView
from ringfence.gateway.witnessing import vouch
from ringfence.gateway.worker import follow, take_turn
from ringfence.ledger.keys import log_key
from ringfence.ledger.notes import Note, sign


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-lineage", {"lineage": US_MARKET}),
        ("wrong-round", {"round": 4}),
        ("wrong-round", {"round": -1, "state": "released"}),
    ],
)
def test_refuses_a_view_that_was_not_agreed_on(
    world: World, reason: str, changes: dict[str, Any]
) -> None:
    # given a hub that shows another lineage, or a round that was not agreed
    de = world.place("de")
    view = replace(de.view(), **changes)
    # when the gateway looks, then it does nothing that such a view asks
    with refused(world, reason, at="inbound", by="de", counterparty="hub"):
        take_turn(de.gateway, WORLD, view, de.line)


def test_trains_from_no_other_base_than_its_own(world: World) -> None:
    # given a region that has admitted the start
    de = world.place("de")
    de.turn(border=showing(de.line, state="held"))
    # when the hub asks for an update of another model
    view = replace(de.view(), parent=digest_of("another model"))
    with refused(world, "wrong-parent", at="preflight", by="de", counterparty="hub"):
        take_turn(de.gateway, WORLD, view, de.line)
    # then no budget was touched and the site was asked nothing
    assert de.grants() == []
    assert not any(isinstance(order, Train) for order in de.script.orders)


def test_an_older_checkpoint_is_checked_and_not_cosigned(world: World) -> None:
    # given a witness that has seen a newer checkpoint than the one of an earlier view
    de = world.place("de")
    older = de.view().checkpoint
    world.place("us").turn()
    world.hub.publication.publish()
    vouch(de.gateway, de.view().checkpoint, de.line)
    lines: list[str] = []
    # when the earlier view is looked at
    vouch(de.gateway, older, Lying(de.line, cosign=lines.append))
    # then nothing is signed and nothing is wrong
    assert lines == []


def test_an_older_checkpoint_of_another_history_is_a_fork(world: World) -> None:
    # given a checkpoint of the hub's own key over a tree that never was
    de = world.place("de")
    first = de.view().checkpoint
    world.place("us").turn()
    world.hub.publication.publish()
    vouch(de.gateway, de.view().checkpoint, de.line)
    # when it comes, and the hub cannot prove that the newer one goes on from it
    forged = _resigned(world, first)
    # then the gateway stops
    with pytest.raises(ForkError):
        vouch(de.gateway, forged, de.line)


def test_gives_its_line_again_while_the_hub_does_not_show_it(world: World) -> None:
    # given a cosignature that was lost on its way
    de = world.place("de")
    note = de.view().checkpoint
    with pytest.raises(BorderDownError):
        vouch(de.gateway, note, Lying(de.line, cosign=_down))
    # when the same checkpoint is shown again
    vouch(de.gateway, note, de.line)
    # then the hub has the line
    assert de.gateway.witness.name in {line.name for line in _note(de).signatures}


@pytest.mark.parametrize("error", [FormatError("not a view"), TrustError("no"), None])
def test_what_the_hub_says_does_not_end_the_gateway(world: World, error: Fault | None) -> None:
    # given a hub whose answers cannot be read, or whose checkpoint is none
    de = world.place("de")
    asked = []

    def lineage(*question: Any, **how: Any) -> LineageView:
        asked.append(question)
        if error is not None:
            raise error
        return replace(de.view(), checkpoint="no note")

    # when the gateway follows it for five turns
    follow(de.gateway, WORLD, Lying(de.line, lineage=lineage), pause=_stops_after(de, 5))
    # then it has asked five times and recorded one refusal
    assert len(asked) == 5
    assert [entry.kind for entry in world.entries("de")].count("refusal") == 1


def test_a_half_written_file_of_facts_does_not_end_the_gateway(world: World) -> None:
    # given a person in the middle of writing the region's facts
    de = world.place("de")
    facts = de.home.facts.read_bytes()
    de.home.facts.write_bytes(facts[: len(facts) // 2] + b"\n[[")
    # when the gateway follows a lineage
    follow(de.gateway, WORLD, de.line, pause=_stops_after(de, 3))
    # then nobody was accused of it, and nothing was sent
    assert "refusal" not in [entry.kind for entry in world.entries("de")]
    assert de.line.uploads == []


def _resigned(world: World, note: str) -> str:
    origin, size, _, *_ = Note.from_text(note).text.split("\n")
    text = "\n".join((origin, size, "A" * 43 + "=", ""))
    signer = world.signer("hub", "log")
    return Note(text=text, signatures=(sign(text, log_key(origin, signer), signer),)).to_text()


def _note(place: Place) -> Note:
    return Note.from_text(place.view().checkpoint)


def _down(line: str) -> None:
    raise BorderDownError("the line is cut")


def _stops_after(place: Place, failures: int) -> Callable[[int], None]:
    def pause(count: int) -> None:
        if count >= failures:
            place.gateway.stop.set()

    return pause
