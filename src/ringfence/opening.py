"""Opens what one region is: its agreement, papers, law, catalogue, keys and log.

law = open_law(home, read_agreement(home))       # to ask what would be decided
with open_region(home, passphrase) as region:    # to decide, as the one writer of the log
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ringfence.config import Home
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.catalogue import Catalogue, parse_catalogue
from ringfence.core.clock import system_clock, system_steady
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest
from ringfence.crossing import docket
from ringfence.crossing.counters import CounterLedger
from ringfence.crossing.docket import Docket
from ringfence.crossing.exports import Catalogued
from ringfence.crossing.kept_time import Clocks
from ringfence.crossing.law import Law
from ringfence.crossing.papers import Papers
from ringfence.crossing.region import Region
from ringfence.crossing.registry import read_registry
from ringfence.crossing.revoking import keep_in, recorded
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.ledger.log import Log
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.reader import LogReader
from ringfence.policy.approvals import ApprovalId
from ringfence.policy.judge import Judge
from ringfence.policy.packs import load_packs, require_rules
from ringfence.store.sql import open_engine
from ringfence.trust.keys import load_ed25519

AGREEMENT_NAME = "federation.toml"

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def read_agreement(home: Home) -> Agreement:
    """The agreement that this region holds; raises `ConfigError` when it holds none."""
    path = home.agreement / AGREEMENT_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); sign one with 'ringfence agree'"
        ) from error
    return parse_agreement_of(path, data)


def parse_agreement_of(path: Path, data: bytes) -> Agreement:
    """Parse what `path` holds; raises `ConfigError`, which names it, when it is no agreement."""
    try:
        return parse_agreement(data)
    except (ConfigError, FormatError) as error:
        raise ConfigError(f"{path}: {error}; correct the agreement") from error


def open_papers(home: Home, agreement: Agreement, log: Log | None = None) -> Papers:
    """The papers that lie here, without what the region's log says was revoked.

    With `log`, whose writer we are, a revocation that is new is recorded there.
    """
    if log is None:
        reader = LogReader(home.log)
        known = reader.openings(0, reader.durable_size) if home.log.exists() else ()
        return Papers(home.approvals, agreement, recorded=recorded(known))
    return Papers(
        home.approvals,
        agreement,
        recorded=recorded(log.openings(0, log.size)),
        keep=keep_in(log, home.region, system_clock),
    )


def revoked_papers(home: Home, agreement: Agreement) -> frozenset[ApprovalId]:
    """Ids of all papers that were revoked: by a signature, or in the region's own list.

    Raises: ConfigError when a file that says so does not hold.
    """
    listed = map(ApprovalId, read_registry(home.facts).revoked)
    return open_papers(home, agreement).revoked().union(listed)


def open_law(
    home: Home, agreement: Agreement, papers: Papers | None = None, *, process: str = ""
) -> Law:
    """This region's packs, which hold at least what the agreement pins, its papers and registry.

    `process` names who counts exports; without one the ledger is only read, if there is any.
    Raises: ConfigError when a pack is missing, does not validate, or lacks a pinned rule.
    """
    judge = Judge(packs=load_packs(home.packs))
    packs = {pack.name: pack for pack in judge.packs}
    for least in agreement.terms.packs:
        if least.name not in packs:
            raise ConfigError(f"{home.packs}: the agreement asks for a pack {least.name!r}")
        require_rules(packs[least.name], least.rules)
    return Law(
        region=home.region,
        agreement=agreement,
        judge=judge,
        approvals=(papers or open_papers(home, agreement)).read,
        registry=lambda: read_registry(home.facts),
        clock=system_clock,
        ledger=_ledger(home, process),
        catalogue=_catalogued(home, agreement),
    )


def machine_clocks() -> Clocks:
    """This machine's clocks; if it does not say which start it runs since, one of our own."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = os.urandom(16).hex()
    return Clocks(wall=system_clock, steady=system_steady, boot=boot)


def _ledger(home: Home, process: str) -> CounterLedger | None:
    """Whoever only looks makes no database where there is none."""
    if not process and not home.settings.database and not home.state_file.exists():
        return None
    return CounterLedger(open_engine(home.database_url()), process=process)


def _catalogued(home: Home, agreement: Agreement) -> Catalogued | None:
    """The region's own data, or None where nothing trains."""
    if not home.catalogue.exists():
        return None
    catalogue, digest = agreed_catalogue(home, agreement)
    return Catalogued(catalogue=catalogue, digest=digest)


@contextlib.contextmanager
def open_region(
    home: Home, passphrase: bytes, agreement: Agreement | None = None, *, process: str = ""
) -> Iterator[Region]:
    """What this region brings to every crossing; holds the log's writer lock while it is open.

    `agreement` is the one in force unless another is given.  What `process` had reserved in the
    counters when it last died is given back: nothing of it has left.
    Raises: ConfigError when the agreement does not name this region's own keys.
    """
    agreement = agreement or read_agreement(home)
    terms = agreement.region(home.region)
    statement_signer = load_ed25519(home.keys / "statement.key", passphrase)
    log_signer = load_ed25519(home.keys / "log.key", passphrase)
    log_key = NoteKey.from_text(terms.log_key)
    for what, agreed, own in (
        ("statement", terms.statement_public_key(), statement_signer.public_key),
        ("log", log_key.public_key, log_signer.public_key),
    ):
        if agreed != own:
            raise ConfigError(
                f"{home.path}: the agreement names another {what} key for {home.region}; "
                "restore the key, or have the regions sign an agreement with the new one"
            )
    with Log(home.log, origin=log_key.name, signer=log_signer) as log:
        papers = open_papers(home, agreement, log)
        law = open_law(home, agreement, papers, process=process)
        # Behind the lock: nobody else counts under this name.
        if law.ledger is not None and process:
            law.ledger.release_all()
        timekeeper = Timekeeper(
            machine_clocks(),
            path=home.clock,
            log=log,
            region=home.region,
            witnesses={
                NoteKey.from_text(agreement.region(name).witness_key).name: name
                for name in agreement.regions()
                if name not in (home.region, agreement.hub)
            },
        )
        try:
            yield Region(
                law=replace(law, require_time=timekeeper.require),
                statement_signer=statement_signer,
                log=log,
                timekeeper=timekeeper,
                docket=Docket(
                    log,
                    home.region,
                    system_clock,
                    papers.envelope_of,
                    recorded=docket.recorded(log.openings(0, log.size)),
                ),
            )
        finally:
            # What was recorded since the last checkpoint can be proved from now on.
            log.checkpoint()


def read_catalogue(home: Home) -> tuple[Catalogue, Digest]:
    """The catalogue of this region's data; raises `ConfigError` when it is another region's."""
    try:
        catalogue, digest = parse_catalogue(home.catalogue.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{home.catalogue}: cannot be read ({error.strerror}); write the region's catalogue"
        ) from error
    except FormatError as error:
        raise ConfigError(f"{home.catalogue}: {error}; correct the catalogue") from error
    if catalogue.region != home.region:
        raise ConfigError(f"{home.catalogue}: is of region {catalogue.region}, not {home.region}")
    return catalogue, digest


def agreed_catalogue(home: Home, agreement: Agreement) -> tuple[Catalogue, Digest]:
    """As `read_catalogue`, of data that the law is asked about: by the agreement's classes.

    Raises: ConfigError when the catalogue has data of a class, or of a place, that was not agreed.
    """
    catalogue, digest = read_catalogue(home)
    party = agreement.region(home.region)
    if catalogue.jurisdiction != party.jurisdiction:
        raise ConfigError(
            f"{home.catalogue}: expected data of {party.jurisdiction}, as the agreement says of "
            f"{party.id}, got {catalogue.jurisdiction}; correct it, or sign another agreement"
        )
    if more := sorted(set(catalogue.data_classes) - set(party.data_classes)):
        raise ConfigError(
            f"{home.catalogue}: expected data of the classes {sorted(party.data_classes)}, as the "
            f"agreement says of {party.id}, got {more} as well; the law would not be asked about "
            "them: leave those data out, or sign an agreement that names their class"
        )
    return catalogue, digest
