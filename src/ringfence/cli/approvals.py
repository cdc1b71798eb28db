"""Lists, requests, signs and revokes the papers of a region."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.markup import escape
from rich.table import Table

from ringfence.config import Home, write_private
from ringfence.core.agreement import Agreement, check_role
from ringfence.core.clock import from_rfc3339, system_clock, to_rfc3339
from ringfence.core.errors import ConfigError, FormatError, TrustError
from ringfence.core.ids import Digest, jurisdiction
from ringfence.crossing.approvers import approvers_of, missing_roles, roles_needed
from ringfence.crossing.law import Law
from ringfence.crossing.papers import (
    ENVELOPE_LIMIT_BYTES,
    REVOKED_SUFFIX,
    Paper,
    Papers,
    file_name,
    open_paper,
    seal_approval,
    seal_revocation,
)
from ringfence.crossing.planning import Planned
from ringfence.crossing.requests import (
    Change,
    Request,
    confirm,
    effect,
    joined,
    prepare,
    questions,
    unasked,
)
from ringfence.crossing.standing import Standing, standings
from ringfence.ledger.log import LogBusyError
from ringfence.opening import open_law, open_papers, open_region, read_agreement
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.cures import CureFinder
from ringfence.policy.measures import papers_of
from ringfence.policy.revocations import Revocation
from ringfence.policy.words import ApprovalType
from ringfence.trust.dsse import seal_also
from ringfence.trust.keys import Signer, create_ed25519, load_ed25519, read_passphrase

REQUEST_SUFFIX = ".request.json"
_DOCUMENT_PIECE_BYTES = 1 << 20
_MOST_ROUTES = 16
"""A type that only a rare route asks for is found, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A planned step that this region will refuse, the rules, and the first route out of it."""

    step: str
    rules: tuple[str, ...]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every paper of a region; `relied` are ids that the plan's permitted steps rest on."""

    papers: tuple[Standing, ...]
    relied: frozenset[str]
    lacks: tuple[Lack, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What ends soon."""
        return tuple(each.warning for each in self.papers if each.warning)

    @property
    def sound(self) -> bool:
        """Whether nothing that the plan relies on is missing or ends within its warning time."""
        ends = any(each.warning and each.approval.id in self.relied for each in self.papers)
        return not ends and not self.lacks

    def to_json(self) -> dict[str, object]:
        return {
            "papers": [self._paper(each) for each in self.papers],
            "missing": [msgspec.to_builtins(lack) for lack in self.lacks],
            "warnings": list(self.warnings),
        }

    def _paper(self, standing: Standing) -> dict[str, object]:
        approval: dict[str, Any] = msgspec.json.decode(standing.approval.to_bytes())
        return approval | {
            "state": standing.state,
            "detail": standing.detail,
            "days_left": standing.days_left,
            "warning": standing.warning,
            "recheck": standing.recheck,
            "relied_on": standing.approval.id in self.relied,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A paper after a signature; `missing` are the roles that have not signed yet."""

    approval: Approval
    path: Path
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What every command reads of a region."""

    home: Home
    agreement: Agreement
    papers: Papers
    law: Law

    @property
    def operator(self) -> str:
        return self.agreement.region(self.home.region).operator


def _open(home: Home) -> _Desk:
    agreement = read_agreement(home)
    papers = open_papers(home, agreement)
    return _Desk(
        home=home, agreement=agreement, papers=papers, law=open_law(home, agreement, papers)
    )


# ── list ──


def list_papers(home: Home) -> Listing:
    """How the papers of a region stand, and what the steps that it will judge lack.

    Raises: ConfigError when a file in the region's directory does not hold.
    """
    desk = _open(home)
    steps = list(questions(desk.law))
    finder = CureFinder(desk.law.judge, most=1)
    relied: set[str] = set()
    lacks: dict[str, Lack] = {}
    for step, question in steps:
        if step.judged_by != home.region:
            continue
        verdict = desk.law.judge.judge(question)
        if verdict.permitted:
            relied.update(verdict.approvals)
            continue
        cures = finder.find(question)
        lack = Lack(
            step=_named(step),
            rules=tuple(dict.fromkeys(note.id for note in verdict.rules)),
            needs=tuple(map(str, cures.routes[0])) if cures.routes else (),
        )
        lacks[lack.step] = lack
    for step, refused in unasked(desk.law):
        if step.judged_by == home.region:
            name = _named(step)
            lacks[name] = Lack(step=name, rules=(refused.reason,), needs=(refused.detail,))
    return Listing(
        papers=standings(
            desk.agreement,
            desk.papers.all(),
            revoked=desk.law.registry().revoked,
            questions=[question for _, question in steps],
            now_s=desk.law.clock(),
        ),
        relied=frozenset(relied),
        lacks=tuple(lacks.values()),
    )


def render_listing(listing: Listing) -> Table:
    """The papers as a table, soonest end first."""
    table = Table(title="papers", show_lines=False)
    for column in ("paper", "flow", "held by", "state", "days", "look again at"):
        table.add_column(column, overflow="fold")
    for each in sorted(listing.papers, key=lambda s: (s.approval.expires, s.approval.id)):
        approval = each.approval
        colour = "green" if each.state == "valid" and not each.warning else "red"
        # Ids, holders and reasons are people's words: brackets in them are no markup.
        table.add_row(
            f"{approval.type}\n{escape(approval.id)}",
            f"{approval.origin} > {approval.destination}\n{', '.join(sorted(approval.kinds))}",
            escape(approval.holder),
            f"[{colour}]{each.state}[/{colour}] {escape(each.detail)}".strip(),
            str(each.days_left),
            each.recheck,
        )
    return table


# ── request ──


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person asks for; `document` is the file of the paper itself.

    `origin` is empty where there is only one; `expires` is a day or a time, UTC.
    """

    type: str
    lineage: str
    destination: str
    origin: str
    issuer: str
    document: Path
    expires: str


def request_paper(home: Home, wanted: Wanted, out: Path | None) -> tuple[Request, Path]:
    """Write the request for a paper that the plan needs; returns it and where it is.

    Raises: ConfigError when no planned step needs such a paper of this region's operator.
    """
    desk = _open(home)
    now_s = float(int(desk.law.clock()))
    draft = _needed(desk, wanted)
    approval = replace(
        draft,
        id=_new_id(desk, draft, now_s),
        issuer=wanted.issuer,
        issued=now_s,
        expires=_end(wanted.expires),
        revocation_source=f"an approver of the holder, in *{REVOKED_SUFFIX}",
        document=_digest(wanted.document),
    )
    request = prepare(desk.law, desk.papers.all(), approval)
    path = out or home.approvals / file_name(approval.id, REQUEST_SUFFIX)
    write_private(path, request.to_bytes())
    return request, path


def _needed(desk: _Desk, wanted: Wanted) -> Approval:
    """The paper that the plan needs, as narrow as its steps are; it has no id and no document."""
    found: dict[tuple[str, str], Approval] = {}
    for paper in _cures(desk, wanted):
        key = (paper.origin, paper.holder)
        found[key] = joined(found.get(key, paper), paper)
    own = [paper for paper in found.values() if paper.holder == desk.operator]
    what = f"{wanted.type} for lineage {wanted.lineage} to {wanted.destination}"
    if not found:
        raise ConfigError(
            f"no planned step needs {what}; 'ringfence check' lists what cures each refusal"
        )
    if not own:
        holders = ", ".join(sorted({paper.holder for paper in found.values()}))
        raise ConfigError(f"{what} is held by {holders}, not by {desk.operator}; request it there")
    if len(own) > 1:
        origins = ", ".join(sorted(paper.origin for paper in own))
        raise ConfigError(f"{what} is needed from {origins}; name one with --from")
    return own[0]


def _cures(desk: _Desk, wanted: Wanted) -> Iterator[Approval]:
    """The papers of this type and direction in the cures of each step, as if none were held."""
    type_ = _type(wanted.type)
    destination = jurisdiction(wanted.destination)
    origin = jurisdiction(wanted.origin) if wanted.origin else None
    desk.agreement.lineage(wanted.lineage)
    finder = CureFinder(desk.law.judge, most=_MOST_ROUTES)
    for step, question in questions(desk.law):
        if step.draft.lineage != wanted.lineage:
            continue
        left = tuple(
            paper
            for paper in question.approvals
            if (paper.type, paper.lineage, paper.destination)
            != (type_, wanted.lineage, destination)
            or paper.origin != (origin or paper.origin)
        )
        asked = replace(question, approvals=left)
        if desk.law.judge.judge(asked).permitted:
            continue
        for route in finder.find(asked).routes:
            for needed in route:
                if needed.paper is type_ and needed.destination == destination:
                    yield from (
                        paper
                        for paper in papers_of(asked, needed)
                        if origin in (None, paper.origin)
                    )


def _named(step: Planned) -> str:
    draft = step.draft
    return f"{draft.lineage}: {step.action} {draft.kind} {step.sender} > {step.recipient}"


def _type(name: str) -> ApprovalType:
    try:
        return ApprovalType(name)
    except ValueError as error:
        known = ", ".join(sorted(ApprovalType))
        raise ConfigError(f"{name[:80]!r} is no type of paper; expected one of {known}") from error


def _new_id(desk: _Desk, approval: Approval, now_s: float) -> ApprovalId:
    """An id that no paper here has: what was revoked once never comes back under its id."""
    day = to_rfc3339(now_s)[:10]
    name = (
        f"{approval.type}/{approval.lineage}/{desk.home.region}-"
        f"{approval.destination.lower()}/{day}"
    )
    taken = {paper.approval.id for paper in desk.papers.all()}
    numbered = (f"{name}.{number}" for number in range(2, len(taken) + 3))
    return next(ApprovalId(each) for each in (name, *numbered) if each not in taken)


def _end(text: str) -> float:
    """A day (its first moment) or a time, UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        pass
    try:
        return from_rfc3339(text)
    except FormatError as error:
        raise ConfigError(
            f"--expires: expected a day such as 2027-05-31 or a time such as "
            f"2027-05-31T12:00:00Z, got {text[:40]!r}"
        ) from error


def _digest(path: Path) -> Digest:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_DOCUMENT_PIECE_BYTES):
            hasher.update(piece)
    return Digest("sha256:" + hasher.hexdigest())


def request_lines(request: Request) -> Iterator[str]:
    """What a request shows to whoever is to sign it."""
    approval = request.opened()
    yield f"{approval.type} {approval.origin} > {approval.destination}, held by {approval.holder}"
    yield f"  id             {approval.id}"
    yield f"  issuer         {approval.issuer}"
    yield f"  counterparties {', '.join(sorted(approval.counterparties))}"
    yield f"  kinds          {', '.join(sorted(approval.kinds))}"
    yield f"  lineage        {approval.lineage}, for {approval.purpose}"
    yield f"  valid          {to_rfc3339(approval.issued)} to {to_rfc3339(approval.expires)}"
    yield f"  document       {approval.document}"
    yield f"  scope          {approval.scope}"
    for what, words in (("ends classes", approval.lowers), ("clears flags", approval.clears)):
        if words:
            yield f"  {what:<14} {', '.join(sorted(words))}"
    yield (
        "It would change these planned steps:"
        if request.changes
        else ("It would change no planned step as things stand.")
    )
    yield from (f"  {change}" for change in request.changes)
    if not request.former:
        yield "Nothing of this type and direction was approved before."
    else:
        yield f"It differs from {request.former}:"
        for each in request.differences:
            yield f"  {each.field}: {_text(each.before)} > {_text(each.now)}"
    yield f"shown {request.shown}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# ── sign, revoke ──


def open_request(home: Home, path: Path) -> Request:
    """A request, as it is to be shown before it is signed.

    Raises: Refused when what it would permit has changed since it was made.
    """
    desk = _open(home)
    return confirm(desk.law, desk.papers.all(), path.read_bytes())


def sign_request(home: Home, path: Path, *, role: str, key: Path | None) -> Signed:
    """Sign a request as `role`, or add this signature to the others; the key is in `key`.

    Raises: Refused when the request, the plan or the agreed flow has changed since it was shown;
    TrustError when the key is not that of `role` for the operator that holds the paper.
    """
    desk = _open(home)
    request = confirm(desk.law, desk.papers.all(), path.read_bytes())
    approval = request.opened()
    needed = roles_needed(desk.agreement, approval.type)
    if role not in needed:
        raise ConfigError(
            f"{approval.id}: a paper of type {approval.type} is signed by {' and '.join(needed)}, "
            f"not by {role[:80]!r}"
        )
    signer = _signer(desk, approval.holder, role, key)
    target = home.approvals / file_name(approval.id)
    before = _signed_before(desk, target, approval)
    if before is None:
        envelope = seal_approval(approval, signer)
    else:
        envelope = seal_also(
            before, signer=signer, limit_bytes=ENVELOPE_LIMIT_BYTES, what=str(target)
        )
    paper = open_paper(desk.agreement, envelope, what=str(target))
    missing = paper.missing if isinstance(paper, Paper) else needed
    write_private(target, envelope)
    return Signed(approval=approval, path=target, missing=missing)


def _signed_before(desk: _Desk, target: Path, approval: Approval) -> bytes | None:
    """The envelope that others have signed, of exactly this approval."""
    if not target.exists():
        return None
    envelope = target.read_bytes()
    paper = open_paper(desk.agreement, envelope, what=str(target))
    if not isinstance(paper, Paper) or paper.approval != approval:
        raise ConfigError(f"{target}: holds another paper; request this one under a new id")
    if not missing_roles(desk.agreement, approval.type, approval.holder, paper.signers):
        raise ConfigError(f"{target}: everybody has signed it")
    return envelope


def revoke_paper(
    home: Home, name: str, *, reason: str, role: str, key: Path | None
) -> tuple[Path, tuple[Change, ...]]:
    """Sign the end of an approval; returns the file and the planned steps that it stops.

    It counts from the next decision of each region that has the file, and is in this region's log
    when this returns, unless a process that writes the log is there to record it.
    Raises: ConfigError when no such approval is here, or it is revoked already; TrustError when the
    key may not sign for its holder.
    """
    desk = _open(home)
    paper = _find(desk, name)
    approval = paper.approval
    signer = _signer(desk, approval.holder, role, key)
    stops = effect(desk.law, without=(approval,)) if paper.counts else ()
    revocation = Revocation(
        approval=approval.id, holder=approval.holder, reason=reason, at=system_clock()
    )
    path = home.approvals / file_name(approval.id, REVOKED_SUFFIX)
    if path.exists():
        raise ConfigError(f"{path}: is there already; look at it before you write another")
    write_private(path, seal_revocation(revocation, signer))
    _record(home)
    return path, stops


def _record(home: Home) -> None:
    """Have what is revoked here in the log, so that removing a file undoes nothing."""
    passphrase = read_passphrase(home.passphrase_source())
    with contextlib.suppress(LogBusyError), open_region(home, passphrase) as region:
        region.law.approvals()


def _find(desk: _Desk, name: str) -> Paper:
    papers = [paper for paper in desk.papers.all() if paper.approval.id == name]
    own = [paper for paper in papers if paper.approval.holder == desk.operator]
    if not papers:
        raise ConfigError(f"no paper {name[:200]!r} is here; 'ringfence approvals list' names all")
    if not own:
        raise ConfigError(
            f"{name}: is held by {papers[0].approval.holder}, not by {desk.operator}; its own "
            "approvers revoke it"
        )
    if own[0].revoked:
        raise ConfigError(f"{name}: is revoked already ({own[0].revoked})")
    return own[0]


def _signer(desk: _Desk, holder: str, role: str, key: Path | None) -> Signer:
    """The key of `role`, if the agreement names it for `holder`."""
    named = {
        approver.public_key()
        for approver in approvers_of(desk.agreement, holder)
        if approver.role == role
    }
    if not named:
        raise ConfigError(f"the agreement names no {role[:80]!r} of {holder}; agree on one first")
    path = key or desk.home.keys / "offline" / f"{role}.key"
    signer = load_ed25519(path, read_passphrase(desk.home.passphrase_source()))
    if signer.public_key not in named:
        raise TrustError(
            f"{path}: expected a key that the agreement names as {role} of {holder}, got "
            f"{signer.keyid}"
        )
    return signer


def create_key(home: Home, role: str) -> tuple[Path, bytes]:
    """Draw a key for `role` into `keys/offline/`; returns its file and the raw public key.

    Raises: ConfigError when there is one, or `role` is no name of a role.
    """
    check_role(role, "approvals key")
    path = home.keys / "offline" / f"{role}.key"
    signer = create_ed25519(path, read_passphrase(home.passphrase_source()))
    return path, signer.public_key
