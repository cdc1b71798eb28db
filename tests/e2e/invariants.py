"""What no kill, cut or restart may touch: releases, log entries, one payload a round."""

from collections import defaultdict
from collections.abc import Mapping

from tests.e2e.federations import HUB, Founded
from tests.e2e.reading import admitted, openings, releases, statements

from ringfence.cli.auditing import verify_home
from ringfence.ledger.contents import Opening

Logs = Mapping[str, list[Opening]]


def logs_of(founded: Founded) -> Logs:
    """Every durable entry of every region's log now."""
    return {region: openings(home) for region, home in founded.federation.homes.items()}


def check_nothing_was_lost(founded: Founded, before: Logs) -> None:
    """Hold the finished federation against what its logs held `before`, and against itself."""
    after = logs_of(founded)
    for region, known in before.items():
        assert after[region][: len(known)] == known, f"the log of {region} lost entries"
    for region, home in founded.federation.homes.items():
        verified = verify_home(home.path, replayed=region == HUB, judged=True)
        assert verified.pending == verified.undisclosed == 0, f"{region}: {verified}"
    for terms in founded.agreement.terms.lineages:
        _check_releases(founded, terms.id, rounds=terms.until_round)
        _check_one_payload(founded, terms.id, rounds=terms.until_round)


def _check_releases(founded: Founded, lineage: str, *, rounds: int) -> None:
    """The hub's journal, its log, its files and every region name one chain of models."""
    released = dict(releases(founded.hub, lineage))
    assert sorted(released) == list(range(rounds + 1))
    said = defaultdict(set)
    for declaration in statements(founded.hub, "intent", "release"):
        if declaration.lineage == lineage:
            said[declaration.round].add((declaration.parent, declaration.model))
    assert said == {
        number: {(released[number - 1], released[number])} for number in range(1, rounds + 1)
    }
    for model in released.values():
        assert founded.hub.state.joinpath("models", f"{_hex(model)}.safetensors").exists()
    for region in founded.agreement.lineage(lineage).recipients:
        held = admitted(founded.home(region), lineage)
        assert held.items() <= released.items(), f"{region} admitted what was not released"
        assert held[rounds] == released[rounds]


def _check_one_payload(founded: Founded, lineage: str, *, rounds: int) -> None:
    """A region's own intents and the hub's arrivals name one payload a round, and the same."""
    arrived = _payloads(statements(founded.hub, "arrival", "update"), lineage)
    for region in founded.agreement.lineage(lineage).contributors:
        own = statements(founded.home(region), "intent", "update")
        meant = _payloads(own, lineage)
        for number in range(1, rounds + 1):
            assert len(meant[region, number]) == 1, f"{region} encoded round {number} twice"
            assert arrived[region, number] == meant[region, number]


def _payloads(declarations: list, lineage: str) -> dict[tuple[str, int], set[str]]:
    found = defaultdict(set)
    for declaration in declarations:
        if declaration.lineage == lineage:
            found[declaration.sender, declaration.round].add(declaration.payload.digest)
    return found


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
