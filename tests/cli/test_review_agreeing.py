"""Signing a successor agreement: whatever goes wrong, the one in force stays in force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringfence.cli.agreeing import agree
from ringfence.cli.agreement_text import render
from ringfence.cli.sample import write_sample
from ringfence.config import Home, open_home
from ringfence.core.agreement import Agreement
from ringfence.core.clock import system_clock
from ringfence.core.errors import ConfigError, Error
from ringfence.core.terms import Lineage, Outer
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import check_signature, read_signatures
from ringfence.ledger.log import Log
from ringfence.ledger.reader import LogReader
from ringfence.opening import open_region, read_agreement
from ringfence.trust.keys import read_passphrase

replace = msgspec.structs.replace


@pytest.fixture
def home(tmp_path: Path) -> Home:
    write_sample(tmp_path / "federation", clock=system_clock)
    return open_home(tmp_path / "federation/regions/cn")


def successor(home: Home, **changes: Any) -> Path:
    """A successor whose lineages have `changes`."""
    held = read_agreement(home)
    lineages: tuple[Lineage, ...] = tuple(replace(line, **changes) for line in held.terms.lineages)
    path = home.path / "successor.toml"
    path.write_text(render(replace(held.terms, predecessor=held.digest, lineages=lineages)))
    return path


def signed(home: Home) -> Iterator[str]:
    """Digests of the agreements that the region's log signs."""
    for opening in LogReader(home.log).openings():
        entry = Entry.from_bytes(opening.content)
        if entry.kind == "agreement":
            yield entry.subject


def test_a_successor_is_signed_recorded_and_in_force(home: Home) -> None:
    # given
    before = read_agreement(home)
    # when
    new = agree(home, successor(home, until_round=9))
    # then both lie here by digest, and ours is signed
    assert read_agreement(home).digest == new.digest
    assert list(signed(home)) == [before.digest, new.digest]
    for agreement in (before, new):
        assert (home.agreement / f"{agreement.digest.partition(':')[2]}.toml").exists()
    check_signature(new, home.region, read_signatures(home.agreement, new)["cn"])


@pytest.mark.parametrize("trouble", ["a running process", "another key", "no passphrase"])
def test_what_stops_a_signature_leaves_the_former_agreement_in_force(
    home: Home, trouble: str
) -> None:
    # given
    before, path = read_agreement(home), successor(home, until_round=9)
    running: Log | None = None
    if trouble == "a running process":
        region = open_region(home, read_passphrase(home.passphrase_source()))
        running = region.__enter__().log
    elif trouble == "another key":
        (home.keys / "statement.key").write_bytes((home.keys / "witness.key").read_bytes())
    else:
        (home.keys / "passphrase").unlink()
    # when
    with pytest.raises(Error):
        agree(home, path)
    # then
    if running is not None:
        running.close()
    assert read_agreement(home).digest == before.digest
    assert list(signed(home)) == [before.digest]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"bars": ("JP",)}, "bars"),
        ({"outer": Outer(momentum=0.9)}, "momentum"),
    ],
)
def test_a_successor_keeps_what_releases_were_made_under(
    home: Home, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ConfigError, match=f"keeps the {what}"):
        agree(home, successor(home, **changes))


def test_agreeing_again_changes_nothing_but_the_log(home: Home) -> None:
    held: Agreement = read_agreement(home)
    agree(home, home.agreement / "federation.toml")
    assert read_agreement(home).digest == held.digest
    assert list(signed(home)) == [held.digest, held.digest]
