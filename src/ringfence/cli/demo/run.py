"""The demo from its first key to its last proof, phase by phase."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from rich.progress import Progress

from ringfence.cli.auditing import audit_log, verify_home
from ringfence.cli.demo.attacks import Attack, attack_the_border, find_refusal, log_size
from ringfence.cli.demo.examples import DATA_CLASSES, Examples, Measurement
from ringfence.cli.demo.findings import (
    Findings,
    count_crossings,
    prove_a_crossing,
    touched_by,
    traffic_of,
)
from ringfence.cli.demo.plan import (
    EVERYONE,
    HUB,
    US_MARKET,
    WESTERN,
    WORLD,
    Model,
    Recipe,
    foundings,
    joining,
    one_more_round,
    pretraining,
)
from ringfence.cli.demo.processes import Processes
from ringfence.cli.federation import Federation, conclude, found_federation, least_packs
from ringfence.config import Home
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.core.agreement import Agreement
from ringfence.core.clock import system_clock
from ringfence.core.errors import StateError
from ringfence.core.terms import Party
from ringfence.crossing.spool import Spool
from ringfence.gateway.journal import Journal as GatewayJournal
from ringfence.opening import read_catalogue
from ringfence.store.sql import open_engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person can choose; `pilot` is how many training pictures China has, or None."""

    directory: Path
    examples: Path
    data: Path
    seed: int
    pilot: int | None


@dataclass(slots=True, kw_only=True)
class Demo:
    """A demo under way."""

    options: Options
    examples: Examples
    recipe: Recipe
    model: Model
    federation: Federation
    processes: Processes
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)

    def home(self, region: str) -> Home:
        return self.federation.homes[region]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase, and say so."""
        self.progress.console.print(f"[bold]{name}[/bold]")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def run_demo(options: Options, progress: Progress) -> Findings:
    """Run the whole demo; returns what it found.

    Raises: ConfigError when the examples or the data are missing; StateError when a process fails.
    """
    shutil.rmtree(options.directory, ignore_errors=True)
    examples = Examples(folder=options.examples, data=options.data, seed=options.seed)
    examples.require()
    federation = found_federation(options.directory, foundings(DATA_CLASSES), clock=system_clock)
    recipe, model = examples.describe(options.directory / "initial.safetensors")
    with Processes(logs=options.directory / "logs") as processes:
        demo = Demo(
            options=options,
            examples=examples,
            recipe=recipe,
            model=model,
            federation=federation,
            processes=processes,
            progress=progress,
        )
        return _run(demo)


def _run(demo: Demo) -> Findings:
    with demo.phase("setup"):
        first = _found(demo)
    with demo.phase("pretraining"):
        _federate(demo, first, WESTERN)
    pretrained = _newest(demo, WORLD)
    states_before = {region: _state(demo, region) for region in WESTERN}
    with demo.phase("localisation"):
        second = _join(demo, first, pretrained)
        _federate(demo, second, EVERYONE)
    released = _newest(demo, WORLD)
    with demo.phase("measurement"):
        measured = _measure(demo, pretrained, released, states_before)
    with demo.phase("attacks"):
        attacks = _attack(demo, second)
    with demo.phase("verification"):
        return _conclude(demo, measured, attacks)


def _found(demo: Demo) -> Agreement:
    for region in EVERYONE:
        pilot = demo.options.pilot if region == "cn" else None
        demo.examples.write_catalogue(demo.home(region), pilot=pilot)
    terms = pretraining(
        demo.recipe,
        demo.model,
        parties=_counted_parties(demo),
        packs=least_packs(demo.home(HUB)),
        port=_free_port(),
    )
    return conclude(demo.federation, terms, clock=system_clock)


def _counted_parties(demo: Demo) -> dict[str, Party]:
    """What the agreement says of each region, with the examples that its catalogue counts."""
    parties = dict(demo.federation.parties)
    for region in EVERYONE:
        catalogue, _ = read_catalogue(demo.home(region))
        parties[region] = replace(parties[region], examples=catalogue.counts["train"])
    return parties


def _join(demo: Demo, before: Agreement, release: str) -> Agreement:
    terms = joining(
        before.terms,
        before.digest,
        demo.recipe,
        _counted_parties(demo),
        release,
    )
    return conclude(demo.federation, terms, clock=system_clock)


def _federate(demo: Demo, agreement: Agreement, regions: Sequence[str]) -> None:
    """Run every process until the agreed rounds have ended."""
    processes = demo.processes
    processes.issuers([demo.home(region) for region in (HUB, *regions)])
    _start_coordinator(demo)
    gateways = [_start_gateway(demo, region) for region in regions]
    sites = [demo.examples.start_training(processes, demo.home(region)) for region in regions]
    with _rounds_shown(demo, agreement) as show:
        for name in processes.finish(gateways, meanwhile=show):
            region = name.removeprefix("gateway-")
            demo.traffic[region] = traffic_of(
                processes.logs / f"{name}.log", so_far=demo.traffic.get(region)
            )
    list(processes.finish(sites))
    processes.stop("coordinator")


def _start_coordinator(demo: Demo) -> None:
    initial = demo.options.directory / "initial.safetensors"
    demo.processes.start(
        "coordinator", "coordinator", "--home", str(demo.home(HUB).path), "--initial", str(initial)
    )


@contextmanager
def _rounds_shown(demo: Demo, agreement: Agreement) -> Iterator[Callable[[], None]]:
    """A bar a lineage, fed from the hub's journal."""
    journal = _hub_journal(demo)
    bars = {
        line.id: demo.progress.add_task(line.id, total=line.until_round)
        for line in agreement.terms.lineages
    }

    def show() -> None:
        for lineage, bar in bars.items():
            round_ = journal.current_round(lineage)
            if round_ is not None:
                ended = round_.state in ("released", "held")
                demo.progress.update(
                    bar,
                    completed=round_.round - (not ended),
                    description=f"{lineage}: round {round_.round} {round_.state}",
                )

    yield show
    show()


def _measure(
    demo: Demo, pretrained: str, released: str, states_before: dict[str, str]
) -> dict[str, Measurement]:
    """Each region measures its own models on its own test pictures, behind its own fence.

    Test pictures are looked at here and nowhere else.
    """
    wanted: list[tuple[str, str, Path, str]] = []  # region, what, model, state
    for region in EVERYONE:
        models = Spool(demo.home(region).state)
        before, after = models.model(pretrained), models.model(released)
        wanted.append((region, "before", before, states_before.get(region, "")))
        wanted.append((region, "regional", after, _state(demo, region)))
        wanted.append((region, "global", after, ""))
    wanted.append(("cn", "local", demo.options.directory / "initial.safetensors", ""))
    _measure_all(demo, wanted)
    found = {
        (region, what): demo.examples.measured(demo.home(region), what)
        for region, what, _, _ in wanted
    }
    return {
        region: Measurement(
            before=found[region, "before"],
            after_regional=found[region, "regional"],
            after_global=found[region, "global"],
            local_only=found.get((region, "local")),
        )
        for region in EVERYONE
    }


def _measure_all(demo: Demo, wanted: list[tuple[str, str, Path, str]]) -> None:
    """Run measurements, as many at once as there are processors."""
    waiting = list(wanted)
    under_way: list[str] = []
    while waiting or under_way:
        while waiting and len(under_way) < (os.cpu_count() or 1):
            region, what, model, state = waiting.pop(0)
            under_way.append(
                demo.examples.start_measuring(
                    demo.processes, demo.home(region), what=what, model=model, state=state
                )
            )
        under_way.remove(next(demo.processes.finish(under_way)))


def _attack(demo: Demo, before: Agreement) -> list[Attack]:
    """One more round opens, and five attempts are made on it."""
    terms = one_more_round(before.terms, before.digest)
    agreement = conclude(demo.federation, terms, clock=system_clock)
    _start_coordinator(demo)
    gateways = [_start_gateway(demo, region) for region in EVERYONE]
    attacks = [
        _dishonest_site(
            demo,
            "cn",
            "raw pictures offered as an update",
            "raw-pictures",
            "PLAT-RAW",
            str(demo.examples.pictures("cn")),
        ),
        _dishonest_site(
            demo,
            "us",
            "state trained under world used for us-market",
            "borrowed-state",
            "US-ICTS-791.303",
            _state(demo, "us"),
        ),
        *attack_the_border(
            demo.federation.homes, agreement, scratch=demo.options.directory / "attacks"
        ),
    ]
    demo.processes.stop(*gateways, "coordinator")
    return attacks


def _dishonest_site(
    demo: Demo, region: str, name: str, attack: str, by: str, material: str
) -> Attack:
    home = demo.home(region)
    since = log_size(home)
    demo.processes.wait(home.site_socket.exists, f"gateway-{region}")
    script = str(demo.examples.folder / "attacks" / "dishonest_site.py")
    site = f"attack-{region}"
    demo.processes.start(site, "train", script, attack, material, "--home", str(home.path))
    list(demo.processes.finish([site]))
    return find_refusal(name, home, counterparty=HUB, by=by, since=since)


def _start_gateway(demo: Demo, region: str) -> str:
    name = f"gateway-{region}"
    demo.processes.start(name, "gateway", "--home", str(demo.home(region).path), "--json")
    return name


def _conclude(demo: Demo, measured: dict[str, Measurement], attacks: list[Attack]) -> Findings:
    demo.processes.stop()
    verified = [verify_home(home.path, judged=True) for home in demo.federation.homes.values()]
    hub = demo.home(HUB)
    verify_home(hub.path, replayed=True)
    audit = audit_log(hub.path)
    return Findings(
        seed=demo.options.seed,
        pilot=demo.options.pilot,
        regions=measured,
        border=demo.traffic,
        crossings=count_crossings(demo.federation.homes.values()),
        attacks=tuple(attacks),
        logs_verified=len(verified) == len(demo.federation.homes),
        verdicts_judged_again=sum(each.judged for each in verified),
        proof=prove_a_crossing(hub, demo.federation.agreement_path),
        us_market_touched_by_cn=touched_by(audit, lineage=US_MARKET, region="cn"),
        seconds=demo.seconds,
    )


def _newest(demo: Demo, lineage: str) -> str:
    release = _hub_journal(demo).release(lineage)
    if release is None or release.round == 0:
        raise StateError(f"{lineage}: no release came out; see {demo.processes.logs}")
    return release.model


def _state(demo: Demo, region: str) -> str:
    """Digest of the regional state that `world` last left in a region."""
    journal = GatewayJournal(open_engine(demo.home(region).database_url()))
    return journal.newest_state(WORLD, bars=frozenset())


def _hub_journal(demo: Demo) -> HubJournal:
    return HubJournal(open_engine(demo.home(HUB).database_url()))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
