"""Release records that the hub did write into its log, and that say something untrue."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest
from msgspec.structs import replace
from tests.places.founding import digest_of
from tests.places.world import WORLD, Place, World, refused

from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, RegionId
from ringfence.crossing.entries import Entry
from ringfence.gateway.inbound import admit_release
from ringfence.gateway.witnessing import watch
from ringfence.ledger.disclosure import check_proof


def _with_record(released: World, **changes: Any) -> Place:
    """The record that the hub discloses is another entry of its log.

    It is signed, cosigned by everybody, and proven: only what it says is wrong.
    """
    true = next(entry for entry in released.entries() if entry.kind == "release")
    index = released.hub.region.record(replace(true, **changes))
    state = released.homes["hub"].state / "state.db"
    with contextlib.closing(sqlite3.connect(state)) as db, db:
        db.execute("update hub_releases set log_index = ? where round = 1", (index,))
    released.hub.publication.publish()
    for name in ("cn", "de", "us"):
        place = released.place(name)
        watch(place.gateway, place.view(), place.line)
    return released.place("de")


def _proven(place: Place) -> Entry:
    proof = place.line.disclosure(Digest(place.view().release or ""))
    return Entry.from_bytes(check_proof(proof, log_key=place.gateway.hub_log_key).content)


def test_a_true_record_is_believed(released: World) -> None:
    # given a record that says what the first one said
    de = _with_record(released)
    # when the release is admitted, then it is: what the lies below lack is the lie alone
    assert admit_release(de.gateway, de.view(), de.line) == "admitted"


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("not-proven", {"kind": "merge"}),
        ("not-proven", {"lineage": "us-market"}),
        ("not-proven", {"round": 2}),
        ("not-proven", {"subject": digest_of("another model")}),
        ("not-proven", {"inputs": ()}),
        ("wrong-parent", {"inputs": (digest_of("another base"), digest_of("payload"))}),
        ("wrong-measurement", {"measurements": ("cn=50.0", "de=99.0", "us=50.0")}),
        ("malformed", {"measurements": ("de=fifty",)}),
    ],
)
def test_a_record_that_says_something_else_is_not_believed(
    released: World, reason: str, changes: dict[str, Any]
) -> None:
    # given a record that contradicts the statement, or what this region knows of itself
    de = _with_record(released, **changes)
    base = de.gateway.models.admitted(WORLD)
    assert _proven(de)
    # when the release is to be admitted, then it is refused, whoever has cosigned it
    with refused(released, reason, at="inbound", by="de", counterparty="hub"):
        admit_release(de.gateway, de.view(), de.line)
    assert de.gateway.models.admitted(WORLD) == base


def test_a_region_that_the_record_does_not_speak_of_cannot_know(released: World) -> None:
    # given a record that lies about Germany's measurement
    _with_record(released, measurements=("cn=50.0", "de=99.0", "us=50.0"))
    # when America admits the release
    us = released.place("us")
    admission = admit_release(us.gateway, us.view(), us.line)
    # then it does: Germany is the one that finds out, and stops
    assert admission == "admitted"


def test_a_disclosure_of_another_region_is_refused(released: World) -> None:
    # given a release statement to China
    theirs = Digest(released.place("cn").view().release or "")
    # when Germany asks for its proof, then it gets none
    with pytest.raises(Refused) as caught:
        released.service.disclosure(RegionId("de"), theirs)
    assert caught.value.reason == "not-addressed-to-you"
