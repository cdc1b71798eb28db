"""A federation whose regions conclude a successor agreement, in one process.

with opened(west(founded, tmp_path), tmp_path / "run") as world: ...    # round 1 of `world`
with succeeded(world) as world: ...      # China joins; `us-market` branches off the release
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace
from tests.places.founding import MEMBERS, Founded, Template
from tests.places.world import US_MARKET, WORLD, World

from ringfence.cli.agreement_text import render
from ringfence.cli.sample_papers import sample_approvals, sample_facts
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.clock import to_rfc3339
from ringfence.core.terms import Budget, Lineage, Start, Target, Terms
from ringfence.crossing.entries import Entry
from ringfence.crossing.papers import seal_approval
from ringfence.crossing.signatures import keep_signatures, sign_agreement
from ringfence.opening import AGREEMENT_NAME
from ringfence.policy.packs import copy_default_packs

WEST = ("de", "us")


def west(founded: Founded, directory: Path) -> Template:
    """An agreement on one round of `world` among Germany and America."""

    def change(terms: Terms) -> Terms:
        world, _ = terms.lineages
        target = Target(countries=("CN", "EU"), sae_level=3, model_year=2027)
        alone = replace(
            world, contributors=WEST, recipients=WEST, until_round=1, gate=None, target=target
        )
        return replace(terms, lineages=(alone,))

    return founded.agree(directory / "west", change)


def first_round(world: World) -> None:
    """Release round 1 of `world`; everybody of it admits the release."""
    world.run_to(WORLD, 1, "released")
    settle(world)


def settle(world: World) -> None:
    """Let everybody do what is due until nothing is."""
    while world.turn_all():
        pass
    world.turn_all()


def china_joins(terms: Terms, release: str) -> Terms:
    """China contributes to `world` from round 2 on; `us-market` leaves it at `release`."""
    (world,) = terms.lineages
    market = Lineage(
        id=US_MARKET,
        contributors=WEST,
        recipients=WEST,
        until_round=2,
        quorum=2,
        deadline_s=600,
        start=Start(model=release, branch_of=WORLD),
        bars=("CN",),
        target=Target(countries=("US",), sae_level=3, model_year=2027),
    )
    joined = replace(world, contributors=MEMBERS, recipients=MEMBERS, until_round=3, quorum=3)
    return replace(terms, lineages=(joined, market), budget=Budget(updates=9))


@contextlib.contextmanager
def succeeded(
    before: World, change: Callable[[Terms, str], Terms] = china_joins
) -> Iterator[World]:
    """The same regions under a successor agreement; `before` must be closed."""
    release = before.hub.journal.release(WORLD)
    assert release is not None
    terms = change(before.agreement.terms, release.model)
    data = render(replace(terms, predecessor=before.agreement.digest)).encode()
    agreement = parse_agreement(data)
    founded, clock = before.founded, before.clock
    signatures = {
        name: sign_agreement(agreement, name, founded.signers[name, "statement"])
        for name in agreement.regions()
    }
    for name in agreement.regions():
        home = before.homes[name]
        (home.agreement / f"{agreement.digest.partition(':')[2]}.toml").write_bytes(data)
        (home.agreement / AGREEMENT_NAME).write_bytes(data)
        keep_signatures(home.agreement, agreement, signatures)
        _write_papers(before, name, agreement, clock())
    template = Template(founded=founded, federation=before.homes.template)
    after = World(template, before.path)
    after.clock.now_s = clock.now_s
    for name in agreement.regions():
        region = after.open_region(name)
        region.record(
            Entry(
                kind="agreement",
                at=to_rfc3339(clock()),
                counterparty=name,
                subject=agreement.digest,
                envelope=signatures[name].decode(),
            )
        )
        region.log.close()
    with after:
        yield after


def _write_papers(world: World, name: str, agreement: Agreement, now_s: float) -> None:
    home = world.homes[name]
    homes = {each: world.homes[each] for each in agreement.regions()}
    at = float(int(now_s))
    for approval, holder in sample_approvals(homes, agreement, world.founded.judge, now_s=at):
        envelope = seal_approval(approval, world.founded.signers[holder.id, "counsel"])
        path = home.approvals / f"{approval.id.replace('/', '-')}.dsse.json"
        path.write_bytes(envelope)
    home.facts.write_text(sample_facts(homes, agreement, now_s=at))


def give_packs(world: World) -> None:
    """Homes of a world share packs that lie elsewhere; a command looks for them in the home."""
    for name in world.agreement.regions():
        packs = world.homes[name].packs
        if not packs.exists():
            packs.mkdir()
            copy_default_packs(packs)
