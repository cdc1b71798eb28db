"""A region takes an agreement in, checks that it is its own, and signs its hash."""

from __future__ import annotations

from pathlib import Path

from ringfence.config import Home, write_private
from ringfence.core.agreement import Agreement
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import ConfigError
from ringfence.core.terms import Lineage
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import keep_signatures, sign_agreement
from ringfence.opening import AGREEMENT_NAME, open_region, parse_agreement_of, read_agreement
from ringfence.trust.keys import read_passphrase


def agree(home: Home, path: Path) -> Agreement:
    """Hold the agreement in `path` from now on and sign it; the signature is in the log.

    The region's processes must be stopped.  Raises: ConfigError when the agreement does not name
    this region's keys, or is no successor of the one held; whatever is raised, the agreement that
    was in force still is.
    """
    data = path.read_bytes()
    agreement = parse_agreement_of(path, data)
    agreement.region(home.region)
    held = home.agreement / AGREEMENT_NAME
    before = read_agreement(home) if held.exists() else None
    if before is not None and before.digest != agreement.digest:
        _check_successor(before, agreement, path)
    with open_region(home, read_passphrase(home.passphrase_source()), agreement) as region:
        # The log may name only agreements that lie here by digest, so this comes before the entry.
        write_private(home.agreement / f"{agreement.digest.partition(':')[2]}.toml", data)
        envelope = sign_agreement(agreement, region.id, region.statement_signer)
        keep_signatures(home.agreement, agreement, {region.id: envelope})
        region.record(
            Entry(
                kind="agreement",
                at=to_rfc3339(region.clock()),
                counterparty=region.id,
                subject=agreement.digest,
                envelope=envelope.decode(),
            )
        )
        # If the process dies before this, the log holds a signature under terms that are not in
        # force here; agreeing again repeats it.
        write_private(held, data)
    return agreement


def _check_successor(held: Agreement, new: Agreement, path: Path) -> None:
    """A successor names the agreement before it, and keeps its model and what lineages rest on."""
    if new.terms.predecessor != held.digest:
        raise ConfigError(
            f"{path}: expected predecessor {held.digest}, the agreement held here; got "
            f"{new.terms.predecessor or 'none'}"
        )
    lost = {line.id for line in held.terms.lineages} - {line.id for line in new.terms.lineages}
    if lost:
        raise ConfigError(f"{path}: a successor keeps every lineage; {sorted(lost)} are missing")
    for line in held.terms.lineages:
        _check_lineage(line, new.lineage(line.id), path)
    if new.layout.digest != held.layout.digest:
        raise ConfigError(f"{path}: a successor keeps the model's layout; start a new federation")


def _check_lineage(held: Lineage, new: Lineage, path: Path) -> None:
    """What releases were made under stays: who may be in them, where they start, how they add up.

    The momentum of a release that had none cannot be had, so it is neither taken up nor given up.
    """
    for what, before, after in (
        ("bars", sorted(held.bars), sorted(new.bars)),
        ("start", held.start, new.start),
        ("momentum", held.outer.momentum > 0, new.outer.momentum > 0),
    ):
        if before != after:
            raise ConfigError(
                f"{path}: a successor keeps the {what} of lineage {held.id!r}: expected {before}, "
                f"got {after}; start a new lineage for another"
            )
