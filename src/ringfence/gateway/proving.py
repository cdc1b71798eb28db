"""What the hub's log must show before a release is believed: one record of it, for all regions.

The statement of a release is addressed to us alone, so that two regions could be told two
different things in statements that are both true entries of one log.  The record is not addressed
to anybody: it names the model, its parent, the updates merged and what the regions measured.
"""

from __future__ import annotations

from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.errors import FormatError, LogError
from ringfence.core.ids import Digest
from ringfence.crossing.entries import Entry
from ringfence.crossing.statements import open_own
from ringfence.gateway.arrivals import refuse, require_tags
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.witnessing import vouch
from ringfence.ledger.checkpoints import majority
from ringfence.ledger.disclosure import check_proof


def prove_release(
    gateway: Gateway, declaration: Declaration, statement: Digest, border: Border
) -> Entry | None:
    """The record of the release that `declaration` speaks of, as the hub discloses it to us.

    `statement` is the digest of the release or snapshot statement that declares it.  None: too few
    regions have cosigned a checkpoint over it yet.
    Raises: LogError when the hub proves something else; ForkError when the checkpoint is not of
    the log that our witness has watched; Refused when the record contradicts what we know.
    """
    witnesses = gateway.witness_keys
    proven = check_proof(
        border.disclosure(statement), log_key=gateway.hub_log_key, witnesses=witnesses
    )
    # Our own witness answers for this checkpoint too, not only a majority that we cannot ask.
    vouch(gateway, proven.note, border)
    entry = Entry.from_bytes(proven.content)
    for field, want, got in (
        ("kind", "release", entry.kind),
        ("lineage", declaration.lineage, entry.lineage),
        ("round", str(declaration.round), str(entry.round)),
        ("model", declaration.model, entry.subject),
    ):
        if want != got:
            raise LogError(
                f"entry {proven.index} of the hub's log: expected the release record of "
                f"{declaration.lineage} round {declaration.round} with {field} {want}, got {got}"
            )
    if len(entry.inputs) < 2:
        raise LogError(f"entry {proven.index}: a release record without its parent and payload")
    if len(proven.cosigned_by) < majority(len(witnesses)):
        return None
    _check_own_part(gateway, declaration, entry)
    return entry


def _check_own_part(gateway: Gateway, declaration: Declaration, entry: Entry) -> None:
    """What the record says of us must be so: whose update was merged, and what we measured."""
    sent = gateway.journal.outbound(entry.lineage, entry.round)
    merged = entry.inputs[2:]
    if sent is not None and sent.encoding is not None and sent.envelope is not None:
        tags = sent.encoding.jurisdictions if statement_digest(sent.envelope) in merged else ()
        require_tags(declaration, tags)
    report = gateway.models.reported(entry.lineage, entry.round)
    gate = gateway.region.agreement.lineage(entry.lineage).gate
    if report is None or not report.envelope or gate is None:
        return
    ours = open_own(gateway.region, report.envelope).metrics[gate.metric]
    for line in entry.measurements:
        region, _, value = line.partition("=")
        if region == gateway.region.id and _number(value) != ours:
            raise refuse(
                "wrong-measurement",
                f"the release record says that {region} measured {value[:40]}, sent was {ours}",
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise FormatError(f"release record: expected a number, got {text[:40]!r}") from error
