"""`ringfence approvals`: list, request, sign and revoke the papers of a region."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli.output import console, say
from ringfence.config import open_home
from ringfence.core.errors import ConfigError

approvals_app = typer.Typer(
    no_args_is_help=True, help="List, request, sign and revoke the papers of a region."
)

HomeOption = Annotated[Path, typer.Option("--home", help="The region's home directory.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON for machines.")]
Role = Annotated[str, typer.Option(help="In which role of the agreement.")]
Key = Annotated[
    Path | None, typer.Option(help="The role's key file; keys/offline/ROLE.key by default.")
]


@approvals_app.command("list")
def list_(home: HomeOption = Path(), as_json: Json = False) -> None:
    """Show every paper; exit status 1 if one that the plan needs is missing or ends soon."""
    from ringfence.cli.approvals import list_papers, render_listing

    listing = list_papers(open_home(home))
    if as_json:
        say("", as_json=True, sound=listing.sound, **listing.to_json())
    else:
        console.print(render_listing(listing))
        for warning in listing.warnings:
            _print(f"soon over: {warning}")
        for lack in listing.lacks:
            needs = "; ".join(lack.needs) or "nothing cures it"
            _print(f"missing: {lack.step} is refused by {', '.join(lack.rules)}; needs {needs}")
    if not listing.sound:
        raise typer.Exit(1)


@approvals_app.command()
def request(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Such as cac.assessment.")],
    lineage: Annotated[str, typer.Option(help="For which lineage.")],
    to: Annotated[str, typer.Option(help="Where it allows to send: a jurisdiction.")],
    issuer: Annotated[str, typer.Option(help="Who gave it, as the document says.")],
    document: Annotated[Path, typer.Option(help="The paper itself; its digest is signed.")],
    expires: Annotated[
        str, typer.Option(help="When it ends: a day (its first moment) or a time, UTC.")
    ],
    from_: Annotated[
        str, typer.Option("--from", help="Where the data are from, if several places are.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Where to write the request.")] = None,
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """Write an unsigned request and show what exactly it would permit."""
    from ringfence.cli.approvals import Wanted, request_lines, request_paper

    wanted = Wanted(
        type=type_,
        lineage=lineage,
        destination=to,
        origin=from_,
        issuer=issuer,
        document=document,
        expires=expires,
    )
    made, path = request_paper(open_home(home), wanted, out)
    lines = "\n".join(request_lines(made))
    _answer(
        f"{lines}\nThe request is in {path}; 'ringfence approvals sign {path}' signs it.",
        as_json=as_json,
        request=str(path),
        id=str(made.opened().id),
        shown=made.shown,
        changes=[str(change) for change in made.changes],
        former=made.former,
        differences=[each.field for each in made.differences],
    )


@approvals_app.command()
def sign(
    request_file: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="What 'approvals request' wrote.")
    ],
    role: Role = "counsel",
    key: Key = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking back.")] = False,
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """Show a request again and sign it; refused if what it would permit has changed."""
    from ringfence.cli.approvals import open_request, request_lines, sign_request

    opened = open_home(home)
    shown = open_request(opened, request_file)
    if not as_json:
        _print("\n".join(request_lines(shown)))
    if not yes:
        if as_json:
            raise ConfigError("a machine cannot be asked whether to sign; read it, and add --yes")
        typer.confirm(f"Sign this as {role}?", abort=True)
    signed = sign_request(opened, request_file, role=role, key=key)
    waits = f"still to be signed by {' and '.join(signed.missing)}"
    counts = "it counts from the next decision; give every region of the flow a copy"
    _answer(
        f"signed as {role}: {signed.path}; {waits if signed.missing else counts}",
        as_json=as_json,
        id=str(signed.approval.id),
        paper=str(signed.path),
        missing=list(signed.missing),
        shown=shown.shown,
    )


@approvals_app.command()
def revoke(
    approval: Annotated[str, typer.Argument(metavar="ID", help="The approval's id.")],
    reason: Annotated[str, typer.Option(help="Why; it is signed and recorded.")],
    role: Role = "counsel",
    key: Key = None,
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """End an approval for good, also in the middle of a run, and say what that stops."""
    from ringfence.cli.approvals import revoke_paper

    path, stops = revoke_paper(open_home(home), approval, reason=reason, role=role, key=key)
    lines = "\n".join(f"  {change}" for change in stops) or "  no planned step"
    _answer(
        f"revoked: {path}; give every region of the flow a copy. It stops\n{lines}",
        as_json=as_json,
        id=approval,
        revocation=str(path),
        stops=[str(change) for change in stops],
    )


@approvals_app.command()
def key(
    role: Annotated[str, typer.Argument(help="Such as privacy-officer.")],
    home: HomeOption = Path(),
    as_json: Json = False,
) -> None:
    """Make an approver's key; the agreement must name it before it signs anything."""
    from ringfence.cli.approvals import create_key

    path, public_key = create_key(open_home(home), role)
    text = base64.b64encode(public_key).decode()
    _answer(
        f"{path} holds the key. Its entry in the agreement, below the region:\n\n"
        f'[[regions.approvers]]\nrole = "{role}"\nkey = "{text}"\nperson = "WHO HOLDS IT"',
        as_json=as_json,
        file=str(path),
        role=role,
        key=text,
    )


def _answer(text: str, *, as_json: bool, **fields: object) -> None:
    if as_json:
        say("", as_json=True, **fields)
    else:
        _print(text)


def _print(text: str) -> None:
    """Names and reasons are other people's words: brackets in them are no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
