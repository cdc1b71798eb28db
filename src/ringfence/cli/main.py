"""`ringfence`: the commands, each a thin face over the floors below."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ringfence.cli.approval_commands import approvals_app
from ringfence.cli.log_commands import log_app
from ringfence.cli.output import console, errors, say, start_logging
from ringfence.config import open_home
from ringfence.core.clock import system_clock
from ringfence.core.errors import Error, Refused

# Each command imports what it needs when it runs: a script's launcher loads no web server and no
# database, and starts in a quarter of the time.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains one model across borders that its data may not cross.",
)
app.add_typer(approvals_app, name="approvals")
app.add_typer(log_app, name="log")

HomeOption = Annotated[Path, typer.Option("--home", help="The region's home directory.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON for machines.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A directory that does not exist yet.")],
    as_json: Json = False,
) -> None:
    """Write a commented sample federation of three regions and a hub that runs as it is."""
    from ringfence.cli.sample import write_sample

    sample = write_sample(directory, clock=system_clock)
    say(
        f"A sample federation is in {directory}. Next: read {directory}/README.md",
        as_json=as_json,
        directory=str(directory),
        agreement=sample.digest,
        regions=[str(region) for region in sample.regions()],
    )


@app.command()
def agree(
    agreement: Annotated[Path, typer.Argument(help="The agreement, federation.toml.")],
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """Hold an agreement from now on and sign its hash; the region's processes must be stopped."""
    from ringfence.cli.agreeing import agree as take_agreement

    opened = open_home(home)
    signed = take_agreement(opened, agreement)
    say(
        f"{opened.region} holds and has signed {signed.digest}",
        as_json=as_json,
        region=opened.region,
        agreement=signed.digest,
    )


@app.command()
def check(
    federation: Annotated[
        Path, typer.Argument(help="A region's home, or a directory with a 'regions' folder.")
    ],
    as_json: Json = False,
) -> None:
    """Walk every crossing that the agreement will make; exit status 1 if any is refused."""
    from ringfence.cli.check_report import lines_of, render_rows, steps_of
    from ringfence.cli.checking import check_homes, find_homes, hardware_of, ownership_of

    homes = find_homes(federation)
    rows, chips, owners = check_homes(homes), hardware_of(homes), ownership_of(homes)
    refused = sum(not row.permitted for row in rows)
    if as_json:
        crossings = [row.to_json() for row in rows]
        say(
            "",
            as_json=True,
            refused=refused,
            crossings=crossings,
            steps=steps_of(rows),
            hardware=chips,
            ownership=owners,
        )
    else:
        console.print(render_rows(rows))
        for line in (*chips, *owners, *lines_of(rows)):
            # What people wrote may hold brackets, which are no markup.
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"{len(rows)} crossings, {refused} refused. Legal packs are engineering input, not "
            "legal advice: counsel in each jurisdiction must confirm every rule."
        )
    if refused:
        raise typer.Exit(1)


@app.command()
def issuer(home: HomeOption = Path(), as_json: Json = False) -> None:
    """Hand out this region's short-lived certificates until it is stopped."""
    from ringfence import wiring

    start_logging(as_json=as_json)
    wiring.run_issuer(open_home(home), _stop_event())


@app.command()
def coordinator(
    home: HomeOption = Path(),
    initial: Annotated[
        list[Path] | None, typer.Option(help="A model file that a lineage starts from.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT to listen at, where that is not the address agreed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the hub: serve the border and merge updates into releases until it is stopped."""
    from ringfence import wiring

    start_logging(as_json=as_json)
    wiring.run_coordinator(open_home(home), initial=tuple(initial or ()), listen=listen)


@app.command()
def gateway(home: HomeOption = Path(), as_json: Json = False) -> None:
    """Run this region's one line across the border until the agreed rounds have ended."""
    from ringfence import wiring

    start_logging(as_json=as_json)
    opened = open_home(home)
    stop = _stop_event()
    traffic = wiring.run_gateway(opened, stop)
    say(
        "stopped" if stop.is_set() else "the agreed rounds have ended",
        as_json=as_json,
        region=opened.region,
        done=not stop.is_set(),
        sent_bytes=traffic.sent_bytes,
        received_bytes=traffic.received_bytes,
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(help="The training script; its arguments follow.")],
    home: HomeOption = Path(),
    allow_network: Annotated[
        bool, typer.Option(help="Run where the system forbids an empty network namespace.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a training script as this region's site, in an empty network namespace."""
    from ringfence.site.launch import launch

    opened = open_home(home)
    status = launch(
        script,
        context.args,
        socket_path=opened.site_socket,
        home=opened.path,
        allow_network=allow_network,
    )
    if as_json:
        say("", as_json=True, script=str(script), status=status)
    raise typer.Exit(status)


@app.command()
def status(home: HomeOption = Path(), as_json: Json = False) -> None:
    """Show what a region is doing: rounds, releases, budget, crossings permitted and refused."""
    from ringfence.cli.reporting import read_status, render_status

    report = read_status(open_home(home))
    if as_json:
        say("", as_json=True, **report.to_json())
    else:
        console.print(render_status(report))


@app.command("lineage")
def show_lineage(
    release: Annotated[
        str,
        typer.Argument(
            help="A model's digest, its first 8 hexadecimal digits or more, or LINEAGE:ROUND."
        ),
    ],
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """Show what a release came of and where it may be deployed; status 1: nowhere, or affected."""
    from ringfence.cli.tracing import render_lineage, trace_release

    traced = trace_release(open_home(home), release)
    if as_json:
        say("", as_json=True, **traced.to_json())
    else:
        console.print(render_lineage(traced))
    if traced.affected or not traced.deployable:
        raise typer.Exit(1)


@app.command()
def clock(
    home: HomeOption = Path(),
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="A person has looked: this machine's clock is right. Is recorded."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show whether the region's clock may be believed; exit status 1 while it may not."""
    from ringfence.cli.reporting import accept_clock, read_clock

    opened = open_home(home)
    found = accept_clock(opened) if accept else read_clock(opened)
    say(
        f"{opened.region}: {found.state}; acted until {found.acted or 'never'}",
        as_json=as_json,
        region=opened.region,
        clock=found.state,
        clock_acted=found.acted,
    )
    if found.state != "right":
        raise typer.Exit(1)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    pilot: Annotated[
        int | None, typer.Option(help="How many training pictures China has; all by default.")
    ] = None,
    examples: Annotated[
        Path, typer.Option(help="The sign example of this project's repository.")
    ] = Path("examples/signs"),
    data: Annotated[
        Path | None, typer.Option(help="Pictures; the example's own sample by default.")
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="Where the federation is founded; emptied first.")
    ] = Path("build/demo"),
    out: Annotated[Path, typer.Option(help="Where the findings are written.")] = Path(
        "build/demo.json"
    ),
    as_json: Json = False,
) -> None:
    """Localise a sign recogniser to China: four regions and a hub, real processes, end to end."""
    from rich.progress import Progress

    from ringfence.cli.demo.findings import render_findings, write_findings
    from ringfence.cli.demo.run import Options, run_demo

    options = Options(
        directory=directory,
        examples=examples,
        data=data or examples / "data",
        seed=seed,
        pilot=pilot,
    )
    with Progress(console=errors, disable=as_json) as progress:
        findings = run_demo(options, progress)
    write_findings(findings, out)
    if as_json:
        say("", as_json=True, **findings.to_json())
    else:
        console.print(render_findings(findings))
    if not findings.sound:
        raise typer.Exit(1)


def _stop_event() -> threading.Event:
    """Set by SIGTERM or SIGINT; long work ends at its next safe point."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a refusal ends with status 1, a fault with status 2, both with a sentence."""
    try:
        app(args=arguments, prog_name="ringfence")
    except Refused as refused:
        _end(str(refused), status=1)
    except Error as error:
        _end(f"error: {error}", status=2)
    except OSError as error:
        # Mostly a path that somebody mistyped; where the program expects more, it says more.
        _end(f"error: {error.filename or 'system'}: {error.strerror or error}", status=2)


def _end(sentence: str, *, status: int) -> NoReturn:
    errors.print(sentence, markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
