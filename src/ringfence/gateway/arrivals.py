"""What candidates, releases and snapshots have in common on their way in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ringfence.core.artifacts import Declaration, Kind, Payload, statement_digest
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import (
    Error,
    ForkError,
    FormatError,
    LayoutError,
    LogError,
    NotFiniteError,
    Refused,
    TrustError,
)
from ringfence.core.ids import Digest
from ringfence.crossing.decide import check_facts, check_verdict_time
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Ruling
from ringfence.crossing.statements import issue_receipt, open_statement
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.models import HeldModel

PeerError = (FormatError, LayoutError, NotFiniteError, TrustError, LogError)
"""What a counterparty can cause by what it says; `ForkError` is the one of them that is final."""


def as_refusal(error: Error) -> Refused:
    """What the hub says and does not hold is refused, like what a rule forbids."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, LogError):
        return refuse("not-proven", str(error))
    return refuse("malformed", str(error))


@contextlib.contextmanager
def recording(gateway: Gateway, lineage: str, round_: int) -> Iterator[None]:
    """Write whatever is refused on the way in into our own log, and let it travel up."""
    try:
        yield
    except ForkError:
        raise
    except (Refused, *PeerError) as error:
        refused = as_refusal(error)
        gateway.record_refusal(refused, lineage=lineage, round_=round_)
        raise refused from error


def fetch_statement(
    gateway: Gateway, digest: Digest, border: Border, *, kind: Kind, lineage: str
) -> tuple[Declaration, bytes]:
    """The hub's statement `digest` to us, checked as far as its kind has no say.

    Raises: Refused, FormatError, TrustError, BorderDownError.
    """
    envelope = border.statement(digest)
    equal("statement", digest, statement_digest(envelope))
    return open_arrival(gateway, envelope, kind=kind, lineage=lineage), envelope


def open_arrival(gateway: Gateway, envelope: bytes, *, kind: Kind, lineage: str) -> Declaration:
    """Verify a statement of the hub: kind, lineage, facts, a round that was agreed, lawful tags.

    A lineage's tags only grow: what comes after our base has at least the tags of our base.
    """
    agreement = gateway.region.agreement
    terms = agreement.lineage(lineage)
    declaration = open_statement(gateway.region, envelope, sender=agreement.hub)
    equal("kind", kind, declaration.kind)
    equal("lineage", lineage, declaration.lineage)
    if declaration.metrics or declaration.examples:
        # Before the law is asked, which knows the cohorts of agreed metrics only.
        raise refuse("unasked-metric", f"a {kind} measures nothing; expected no metrics with it")
    check_facts(gateway.region.law, declaration, stage="inbound")
    check_verdict_time(gateway.region.law, declaration, stage="inbound")
    if not declaration.round <= terms.until_round:
        raise refuse(
            "wrong-round", f"expected at most round {terms.until_round}, got {declaration.round}"
        )
    if barred := set(declaration.jurisdictions).intersection(terms.bars):
        raise refuse("barred-tag", f"lineage {lineage} bars {sorted(barred)}")
    base = gateway.models.admitted(lineage)
    if base is not None:
        require_tags(declaration, base.jurisdictions)
        if declaration.round < base.round:
            raise refuse(
                "wrong-round",
                f"expected a round after {base.round}, which is our base, got {declaration.round}",
            )
    return declaration


def require_tags(declaration: Declaration, least: tuple[str, ...]) -> None:
    """Raise `Refused` unless the declaration bears at least these jurisdictions."""
    if missing := set(least).difference(declaration.jurisdictions):
        raise refuse(
            "tags-missing",
            f"expected at least the tags {sorted(least)}, {sorted(missing)} are missing",
        )


def required_payload(declaration: Declaration) -> Payload:
    """The payload that a candidate or snapshot must announce."""
    if declaration.payload is None:
        raise refuse("incomplete", f"expected a payload with a {declaration.kind}")
    return declaration.payload


def admit(
    gateway: Gateway, declaration: Declaration, envelope: bytes, ruling: Ruling, *, statement: str
) -> bytes:
    """Record the admission, then make the model the lineage's base.

    `statement` is the release that the lineage's view names for this model, or the snapshot's own.
    Returns the receipt for the hub.  Raises: Refused when the clock went wrong meanwhile.
    """
    gateway.region.timekeeper.require()  # the law was asked before the model was fetched
    receipt = issue_receipt(gateway.region, declaration, envelope, ruling)
    gateway.region.record(
        Entry(
            kind="admission",
            at=to_rfc3339(gateway.region.clock()),
            counterparty=declaration.sender,
            lineage=declaration.lineage,
            round=declaration.round,
            subject=declaration.model,
            envelope=envelope.decode(),
        )
    )
    gateway.models.hold(
        HeldModel(
            lineage=declaration.lineage,
            round=declaration.round,
            model=declaration.model,
            jurisdictions=declaration.jurisdictions,
            statement=statement,
            admitted=True,
        )
    )
    return receipt


def equal(field: str, want: str, got: str) -> None:
    """Raise `Refused` unless what came is what was expected."""
    if want != got:
        raise refuse(f"wrong-{field}", f"expected {field} {want}, got {got}")


def refuse(reason: str, detail: str) -> Refused:
    """A refusal of something that came in."""
    return Refused(stage="inbound", reason=reason, detail=detail)
