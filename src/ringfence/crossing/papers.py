"""The papers that a region holds: files that approvers signed, read anew when they change.

    papers = Papers(home.approvals, agreement)
    papers.read()                            # the approvals that count now
    papers.all()                             # every approval, with who signed it and who revoked it
    papers.revoked()                         # what was ever revoked

An approval and a revocation look alike from outside, `*.dsse.json`; what a file is, its signed
payload type says, and no name that somebody gives it.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ringfence.core.agreement import Agreement
from ringfence.core.errors import ConfigError, Error, StateError, TrustError
from ringfence.crossing.approvers import approvers_of, check_types, missing_roles
from ringfence.policy.approvals import (
    APPROVAL_LIMIT_BYTES,
    Approval,
    ApprovalId,
    OperatorId,
    approval_from_bytes,
)
from ringfence.policy.revocations import Revocation, revocation_from_bytes
from ringfence.trust.dsse import Opened, open_signed, seal, seal_also
from ringfence.trust.keys import Signer

APPROVAL_PAYLOAD_TYPE = "application/vnd.ringfence.approval+json"
REVOCATION_PAYLOAD_TYPE = "application/vnd.ringfence.revocation+json"
PAPER_SUFFIX = ".dsse.json"
REVOKED_SUFFIX = ".revoked.dsse.json"
ENVELOPE_LIMIT_BYTES = 2 * APPROVAL_LIMIT_BYTES

Keep = Callable[[Revocation, bytes], None]
"""Takes a revocation that is new here, with its envelope; durable when it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One approval and the public keys that signed it.

    `missing` are the roles that have not signed yet; `revoked` says why it was revoked, or nothing.
    """

    approval: Approval
    signers: tuple[bytes, ...]
    missing: tuple[str, ...]
    revoked: str = ""

    @property
    def counts(self) -> bool:
        """Whether everybody has signed it and nobody has revoked it."""
        return not self.missing and not self.revoked


def file_name(approval: ApprovalId, suffix: str = PAPER_SUFFIX) -> str:
    """Where an approval of this id, or with another suffix what belongs to it, is written."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", approval).lstrip(".")[:120] + suffix


def seal_approval(approval: Approval, *signers: Signer) -> bytes:
    """The signatures of `signers` over exactly this approval; returns the DSSE envelope."""
    first, *others = signers
    envelope = seal(approval.to_bytes(), payload_type=APPROVAL_PAYLOAD_TYPE, signer=first)
    for signer in others:
        envelope = seal_also(
            envelope, signer=signer, limit_bytes=ENVELOPE_LIMIT_BYTES, what=f"paper {approval.id}"
        )
    return envelope


def seal_revocation(revocation: Revocation, signer: Signer) -> bytes:
    """An approver's signature over exactly this revocation; returns the DSSE envelope."""
    return seal(revocation.to_bytes(), payload_type=REVOCATION_PAYLOAD_TYPE, signer=signer)


def open_approval(agreement: Agreement, envelope: bytes, *, what: str) -> Approval:
    """Verify and parse one approval that every role has signed that the agreement asks for.

    Raises: TrustError when one of them has not, or anybody else has; FormatError when it does not
    parse.
    """
    paper = open_paper(agreement, envelope, what=what)
    if not isinstance(paper, Paper):
        raise TrustError(f"{what}: expected an approval, got a revocation of {paper.approval!r}")
    if paper.missing:
        raise TrustError(
            f"{what}: expected the signature of {' and '.join(paper.missing)} of "
            f"{paper.approval.holder!r} as well; have them sign it"
        )
    return paper.approval


def open_paper(agreement: Agreement, envelope: bytes, *, what: str) -> Paper | Revocation:
    """Verify and parse one file: an approval, whoever still has to sign it, or a revocation.

    INVARIANT: every signature on it is by an approver of the operator that holds the approval.
    Raises: TrustError when one is not; FormatError when it does not parse.
    """
    opened = open_signed(
        envelope,
        public_keys={
            approver.public_key()
            for party in agreement.terms.regions
            for approver in party.signatories()
        },
        payload_types=(APPROVAL_PAYLOAD_TYPE, REVOCATION_PAYLOAD_TYPE),
        limit_bytes=ENVELOPE_LIMIT_BYTES,
        what=what,
    )
    if opened.payload_type == REVOCATION_PAYLOAD_TYPE:
        revocation = revocation_from_bytes(opened.payload)
        _check_signers(agreement, revocation.holder, opened, what=what)
        return revocation
    approval = approval_from_bytes(opened.payload)
    _check_signers(agreement, approval.holder, opened, what=what)
    return Paper(
        approval=approval,
        signers=opened.signers,
        missing=missing_roles(agreement, approval.type, approval.holder, opened.signers),
    )


def _check_signers(agreement: Agreement, holder: str, opened: Opened, *, what: str) -> None:
    allowed = {approver.public_key() for approver in approvers_of(agreement, holder)}
    if not set(opened.signers) <= allowed:
        raise TrustError(
            f"{what}: expected signatures of approvers of {holder!r}, which holds it, and of "
            "nobody else; have that operator's counsel sign it"
        )


class Papers:
    """The papers in a directory; a file that is added or changed counts from the next decision on.

    `recorded` are the revocations that this region's log holds already, and `keep` writes a new
    one into it.  INVARIANT: what was revoked once stays revoked, whatever becomes of the file.
    """

    def __init__(
        self,
        directory: Path,
        agreement: Agreement,
        *,
        recorded: Iterable[Revocation] = (),
        keep: Keep | None = None,
    ) -> None:
        """Raises: ConfigError when the agreement asks two people to sign papers of no type."""
        check_types(agreement)
        self._directory = directory
        self._agreement = agreement
        self._keep = keep
        self._lock = threading.Lock()
        self._parsed: dict[tuple[str, int, int], tuple[Paper | Revocation, bytes]] = {}
        self._found: tuple[Approval, ...] = ()
        self._envelopes: dict[Approval, bytes] = {}
        self._reasons: dict[tuple[ApprovalId, OperatorId], str] = {}
        for revocation in recorded:
            self._reasons.setdefault(_revoked(revocation), revocation.reason)

    def read(self) -> tuple[Approval, ...]:
        """Every approval that counts now: signed by all who must, and revoked by nobody.

        The same tuple for as long as nothing changes.
        Raises: ConfigError when a file does not hold: a directory with a forged paper in it is
        looked into by a person before anything crosses.
        """
        found = tuple(paper.approval for paper in self.all() if paper.counts)
        if found != self._found:
            self._found = found
        return self._found

    def all(self) -> tuple[Paper, ...]:
        """Every approval that is there now, half signed and revoked ones too; raises as `read`."""
        with self._lock:
            files = self._read_files()
            for read, envelope in files:
                if isinstance(read, Revocation):
                    self._revoke(read, envelope)
            papers = [read for read, _ in files if isinstance(read, Paper)]
            return tuple(self._with_reason(paper) for paper in papers)

    def envelope_of(self, approval: Approval) -> bytes:
        """What the approvers of an approval signed, also after its file is gone.

        Raises: StateError for an approval that never counted here.
        """
        with self._lock:
            envelope = self._envelopes.get(approval)
        if envelope is None:
            raise StateError(
                f"approval {approval.id}: expected one of {self._directory}; nothing may rest on "
                "an approval that nobody has signed"
            )
        return envelope

    def revoked(self) -> frozenset[ApprovalId]:
        """Every id that a revocation named, here or in the log; raises as `read`."""
        self.all()
        return frozenset(approval for approval, _ in self._reasons)

    def _read_files(self) -> list[tuple[Paper | Revocation, bytes]]:
        parsed = {}
        for entry in self._listed():
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue  # removed since the folder was listed
            key = (entry.name, stat.st_mtime_ns, stat.st_size)
            parsed[key] = self._parsed.get(key) or self._open(self._directory / entry.name)
        self._parsed = parsed
        return list(parsed.values())

    def _listed(self) -> list[os.DirEntry[str]]:
        """By name; every decision looks at every file, where a path costs more than the look."""
        try:
            with os.scandir(self._directory) as entries:
                found = [entry for entry in entries if entry.name.endswith(PAPER_SUFFIX)]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda entry: entry.name)

    def _revoke(self, revocation: Revocation, envelope: bytes) -> None:
        if _revoked(revocation) in self._reasons:
            return
        if self._keep is not None:
            self._keep(revocation, envelope)
        # If the process dies before this, the next one finds the entry, or the file and writes it.
        self._reasons[_revoked(revocation)] = revocation.reason

    def _with_reason(self, paper: Paper) -> Paper:
        reason = self._reasons.get((paper.approval.id, paper.approval.holder), "")
        if not reason:
            return paper
        return Paper(
            approval=paper.approval, signers=paper.signers, missing=paper.missing, revoked=reason
        )

    def _open(self, path: Path) -> tuple[Paper | Revocation, bytes]:
        try:
            envelope = path.read_bytes()
            paper = _opened(self._agreement, envelope, path)
        except (Error, OSError) as error:
            raise ConfigError(f"{error}; mend or remove {path}") from error
        if isinstance(paper, Paper) and not paper.missing:
            self._envelopes[paper.approval] = envelope
        return paper, envelope


def _opened(agreement: Agreement, envelope: bytes, path: Path) -> Paper | Revocation:
    """As `open_paper`; a copy that another region of this process holds is verified once."""
    try:
        return _verified(agreement, envelope)
    except Error:
        return open_paper(agreement, envelope, what=str(path))  # says which file it is


@functools.lru_cache(maxsize=8192)
def _verified(agreement: Agreement, envelope: bytes) -> Paper | Revocation:
    return open_paper(agreement, envelope, what="paper")


def _revoked(revocation: Revocation) -> tuple[ApprovalId, OperatorId]:
    return revocation.approval, revocation.holder
