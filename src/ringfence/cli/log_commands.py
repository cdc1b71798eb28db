"""`ringfence log`: verify a log, prove one entry of it, check such a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.output import say
from ringfence.core.errors import ConfigError, FormatError

log_app = typer.Typer(no_args_is_help=True, help="Verify logs and prove entries, offline.")

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON for machines.")]


@log_app.command()
def verify(
    directory: Annotated[
        Path, typer.Argument(help="A region's home, or a copy of its log/ and agreement/.")
    ],
    replay: Annotated[
        bool, typer.Option("--replay", help="Recompute every merge from the spooled payloads.")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Ask the recorded packs every recorded question again.")
    ] = False,
    allow_undisclosed: Annotated[
        bool, typer.Option(help="Accept a copy that leaves contents out; they are not checked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a whole log and every statement in it, with public keys alone."""
    from ringfence.cli.auditing import verify_home

    verified = verify_home(
        directory, replayed=replay, judged=judge, allow_undisclosed=allow_undisclosed
    )
    witnesses = ", ".join(verified.cosigned_by) or "none"
    say(
        f"[green]holds[/green]: log of {verified.region}, {verified.size} entries: "
        f"{verified.intents} intents, {verified.arrivals} arrivals, {verified.receipts} receipts, "
        f"{verified.refusals} refusals, {verified.admissions} admissions, {verified.merges} merges"
        f" ({verified.replayed} replayed), {verified.releases} releases, {verified.judged} "
        "verdicts judged again; "
        f"{verified.undisclosed} undisclosed, {verified.pending} pending; its first "
        f"{verified.cosigned_size} entries cosigned by {witnesses}",
        as_json=as_json,
        holds=True,
        **verified.to_json(),
    )


@log_app.command("prove")
def prove_entry(
    directory: Annotated[Path, typer.Argument(help="A region's home.")],
    index: Annotated[int, typer.Argument(help="The entry's index.")],
    out: Annotated[Path, typer.Option(help="Where to write the proof.")],
    as_json: Json = False,
) -> None:
    """Write a self-contained proof of one entry; this discloses the entry's content."""
    from ringfence.cli.auditing import best_note
    from ringfence.ledger.disclosure import prove
    from ringfence.ledger.reader import LogReader

    log = LogReader(directory / "log")
    out.write_bytes(prove(log, index, best_note(log, index)))
    say(f"the proof of entry {index} is in {out}", as_json=as_json, index=index, proof=str(out))


@log_app.command("check")
def check_entry(
    proof: Annotated[Path, typer.Argument(help="A proof that 'log prove' wrote.")],
    agreement: Annotated[Path, typer.Option(help="The agreement, which holds the public keys.")],
    region: Annotated[str, typer.Option(help="Whose log it is from.")],
    cosignatures: Annotated[int, typer.Option(help="How many regions must have cosigned.")] = 0,
    as_json: Json = False,
) -> None:
    """Check the proof of one entry with nothing but public keys."""
    from ringfence.core.agreement import parse_agreement
    from ringfence.crossing.entries import Entry
    from ringfence.ledger.disclosure import PROOF_LIMIT_BYTES, check_proof
    from ringfence.ledger.notes import NoteKey

    terms = parse_agreement(agreement.read_bytes())
    if proof.stat().st_size > PROOF_LIMIT_BYTES:
        raise FormatError(f"{proof}: expected at most {PROOF_LIMIT_BYTES} bytes")
    if not 0 <= cosignatures < len(terms.regions()):
        raise ConfigError(f"expected 0 to {len(terms.regions()) - 1} cosignatures")
    proven = check_proof(
        proof.read_bytes(),
        log_key=NoteKey.from_text(terms.region(region).log_key),
        witnesses=[
            NoteKey.from_text(terms.region(name).witness_key)
            for name in terms.regions()
            if name != region
        ],
        cosignatures=cosignatures,
    )
    entry = Entry.from_bytes(proven.content)
    say(
        f"[green]holds[/green]: entry {proven.index} of {region}, {entry.kind} "
        f"({entry.lineage or 'no lineage'}, round {entry.round}) with {entry.counterparty}, "
        f"under {proven.checkpoint}, cosigned by {', '.join(sorted(proven.cosigned_by)) or 'none'}",
        as_json=as_json,
        holds=True,
        index=proven.index,
        kind=entry.kind,
        lineage=entry.lineage,
        round=entry.round,
        counterparty=entry.counterparty,
        cosigned_by=sorted(proven.cosigned_by),
    )
