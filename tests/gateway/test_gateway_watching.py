"""A hub whose log is not one growing log, and a hub that runs another agreement."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.gateway.lying import Lying, showing
from tests.places.founding import digest_of
from tests.places.world import WORLD, Place, World

from ringfence.core.errors import BorderDownError, ForkError, Refused
from ringfence.core.site_wire import Train
from ringfence.core.wire import LogProof
from ringfence.crossing.signatures import sign_agreement
from ringfence.gateway.witnessing import watch
from ringfence.gateway.worker import follow, join
from ringfence.ledger.checkpoints import Checkpoint
from ringfence.ledger.log import Log
from ringfence.ledger.notes import Note


@contextmanager
def _restored(world: World, backup: Path, *entries: bytes) -> Iterator[Log]:
    """The hub's log as somebody restored it from a copy and went on writing."""
    with Log(backup, origin="hub.example/log", signer=world.signer("hub", "log")) as log:
        for entry in entries:
            log.append(entry)
        log.checkpoint()
        yield log


def _over(place: Place, log: Log) -> Lying:
    """A line to a hub that speaks out of this log."""

    def consistency(*, old: int, new: int) -> LogProof:
        return LogProof(hashes=tuple(each.hex() for each in log.consistency(old, new)))

    def cosign(line: str) -> None:
        raise AssertionError("a forked log was cosigned")

    shown = showing(place.line, checkpoint=log.checkpoint())
    return Lying(place.line, lineage=shown.lineage, consistency=consistency, cosign=cosign)


def _checkpoint(note: str) -> str:
    return str(Checkpoint.from_text(Note.from_text(note).text))


@pytest.mark.parametrize("entries", [0, 5, 40], ids=["as long", "longer", "much longer"])
def test_a_forked_log_stops_the_run_and_both_checkpoints_are_named(
    world: World, tmp_path: Path, entries: int
) -> None:
    # given a hub that went back to a copy of its log after a checkpoint was shown, and went on
    de = world.place("de")
    backup = tmp_path / "log"
    shutil.copytree(world.homes["hub"].log, backup)
    first = world.hub.region.log.size
    world.hub.region.log.append(b"what one region was shown")
    world.hub.publication.publish()
    watch(de.gateway, de.view(), de.line)
    seen = de.view().checkpoint
    others = [b"what another is shown %d" % n for n in range(1 + entries)]
    with _restored(world, backup, *others) as log:
        assert log.size == first + 1 + entries
        # when the gateway follows
        with pytest.raises(ForkError) as fork:
            follow(de.gateway, WORLD, _over(de, log), pause=_no_pause)
        # then it stops, and says which two checkpoints cannot both be true
        assert _checkpoint(seen) in str(fork.value)
        assert _checkpoint(log.checkpoint()) in str(fork.value)
    # and keeps both notes, and asks its site for nothing
    (folder,) = (de.home.state / "witness" / "forks").iterdir()
    assert _checkpoint((folder / "seen").read_text()) == _checkpoint(seen)
    assert (folder / "offered").exists()
    assert not [order for order in de.script.orders if isinstance(order, Train)]


def _no_pause(failures: int) -> None:
    raise AssertionError(f"tried again {failures} times")


def test_a_log_that_went_back_is_not_cosigned(world: World, tmp_path: Path) -> None:
    # given a hub that shows a former checkpoint of the same log
    de = world.place("de")
    backup = tmp_path / "log"
    shutil.copytree(world.homes["hub"].log, backup)
    world.hub.region.log.append(b"one more")
    world.hub.publication.publish()
    watch(de.gateway, de.view(), de.line)
    last = de.gateway.witness.last()
    with _restored(world, backup) as log:
        former = showing(de.line, checkpoint=log.checkpoint())
        view = former.lineage(WORLD, seen=0, wait_s=0)
        # when the gateway looks, then it does not sign it, and remembers the newer one
        watch(de.gateway, view, Lying(de.line, cosign=_must_not))
    assert de.gateway.witness.last() == last


def _must_not(line: str) -> None:
    raise AssertionError("an older checkpoint was cosigned")


# ── the agreement ──


class Pauses:
    """Counts the pauses of a loop, and ends it after so many."""

    def __init__(self, place: Place, limit: int) -> None:
        self.count = 0
        self._place = place
        self._limit = limit

    def __call__(self, failures: int) -> None:
        self.count += 1
        if self.count >= self._limit:
            self._place.gateway.stop.set()


def test_does_not_start_under_another_agreement(world: World) -> None:
    # given a hub whose agreement differs in one byte
    de = world.place("de")

    def sign_for(envelope: bytes) -> Any:
        return replace(de.line.sign_agreement(envelope), agreement=digest_of("one byte more"))

    # when the gateway joins, then it stops, and records why
    with pytest.raises(Refused) as caught:
        join(de.gateway, Lying(de.line, sign_agreement=sign_for), pause=_no_pause)
    assert caught.value.reason == "another-agreement"
    entry = world.entries("de")[-1]
    assert entry.refusal is not None
    assert entry.refusal.reason == "another-agreement"


def test_waits_for_a_signature_that_is_missing(world: World) -> None:
    # given a hub that China has not signed with yet
    de = world.place("de")

    def without_china(envelope: bytes) -> Any:
        shown = de.line.sign_agreement(envelope)
        signatures = {name: text for name, text in shown.signatures.items() if name != "cn"}
        return replace(shown, signatures=signatures)

    pauses = Pauses(de, 3)
    # when the gateway joins
    signatures = join(de.gateway, Lying(de.line, sign_agreement=without_china), pause=pauses)
    # then it waits until it is stopped, and starts nothing
    assert pauses.count == 3
    assert signatures == {}


def test_does_not_believe_a_signature_that_does_not_hold(world: World) -> None:
    # given a hub that signed in China's name
    de = world.place("de")
    forged = sign_agreement(world.agreement, world.place("cn").region.id, world.signer("hub"))

    def with_forgery(envelope: bytes) -> Any:
        shown = de.line.sign_agreement(envelope)
        return replace(shown, signatures=shown.signatures | {"cn": forged.decode()})

    pauses = Pauses(de, 2)
    # when the gateway joins
    signatures = join(de.gateway, Lying(de.line, sign_agreement=with_forgery), pause=pauses)
    # then it does not start, and has recorded the forgery
    assert signatures == {}
    assert [e.kind for e in world.entries("de")].count("refusal") == 1


def test_joins_once_every_region_has_signed(world: World) -> None:
    # given a border that is down at first
    de = world.place("de")
    answers: list[Any] = [BorderDownError("not up yet"), BorderDownError("not up yet")]

    def sign_for(envelope: bytes) -> Any:
        if answers:
            raise answers.pop()
        return de.line.sign_agreement(envelope)

    pauses = Pauses(de, 5)
    # when the gateway joins
    signatures = join(de.gateway, Lying(de.line, sign_agreement=sign_for), pause=pauses)
    # then it has every region's signature in the end
    assert sorted(signatures) == ["cn", "de", "hub", "us"]
    assert pauses.count == 2
