"""A region takes an agreement in, checks that it is its own, and signs its hash."""

from __future__ import annotations

from pathlib import Path

from ringfence.config import Home
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import ConfigError
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import sign_agreement
from ringfence.trust.keys import read_passphrase
from ringfence.wiring import AGREEMENT_NAME, open_region


def agree(home: Home, path: Path) -> Agreement:
    """Hold the agreement in `path` from now on and sign it; the signature is in the log.

    The region's processes must be stopped.  Raises: ConfigError when the agreement does not name
    this region's keys, or is no successor of the one held.
    """
    data = path.read_bytes()
    agreement = parse_agreement(data)
    agreement.region(home.region)
    held = home.agreement / AGREEMENT_NAME
    before = held.read_bytes() if held.exists() else None
    if before is not None and before != data:
        _check_successor(parse_agreement(before), agreement, path)
        archive = home.agreement / f"{parse_agreement(before).digest.partition(':')[2]}.toml"
        archive.write_bytes(before)
    scratch = held.with_suffix(".tmp")
    scratch.write_bytes(data)
    scratch.replace(held)
    try:
        with open_region(home, read_passphrase(home.passphrase_source())) as region:
            envelope = sign_agreement(agreement, region.id, region.statement_signer)
            region.record(
                Entry(
                    kind="agreement",
                    at=to_rfc3339(region.clock()),
                    counterparty=region.id,
                    subject=agreement.digest,
                    envelope=envelope.decode(),
                )
            )
    except ConfigError:
        # Not ours to sign: what was held before is held again.
        if before is None:
            held.unlink()
        else:
            held.write_bytes(before)
        raise
    return agreement


def _check_successor(held: Agreement, new: Agreement, path: Path) -> None:
    """A successor names the agreement before it, and keeps its lineages and its model."""
    if new.terms.predecessor != held.digest:
        raise ConfigError(
            f"{path}: expected predecessor {held.digest}, the agreement held here; got "
            f"{new.terms.predecessor or 'none'}"
        )
    lost = {line.id for line in held.terms.lineages} - {line.id for line in new.terms.lineages}
    if lost:
        raise ConfigError(f"{path}: a successor keeps every lineage; {sorted(lost)} are missing")
    if new.layout.digest != held.layout.digest:
        raise ConfigError(f"{path}: a successor keeps the model's layout; start a new federation")
