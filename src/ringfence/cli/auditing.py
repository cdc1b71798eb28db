"""Verifies a region's log offline: the tree, every signature in it, and on request every merge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ringfence.config import Home
from ringfence.coordinator.replay import replay
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.errors import ConfigError, Error, LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.ancestry import Merge
from ringfence.crossing.audit import Audit
from ringfence.crossing.retrial import Retrial
from ringfence.crossing.signatures import check_signatures, read_signatures
from ringfence.ledger.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from ringfence.ledger.contents import Opening
from ringfence.ledger.notes import Note, NoteKey
from ringfence.ledger.reader import LogReader
from ringfence.ledger.verify import Report, verify_log
from ringfence.opening import AGREEMENT_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What held of one log; the tree of `cosigned_size` is the best cosigned one retained."""

    region: str
    size: int
    cosigned_size: int
    cosigned_by: tuple[str, ...]
    intents: int
    arrivals: int
    receipts: int
    refusals: int
    admissions: int
    merges: int
    releases: int
    replayed: int
    judged: int
    undisclosed: int
    pending: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def verify_home(
    directory: Path,
    *,
    region: str | None = None,
    replayed: bool = False,
    judged: bool = False,
    allow_undisclosed: bool = False,
) -> Verified:
    """Verify the log of the region whose home is `directory`, with public keys alone.

    `directory` needs `log/` and `agreement/` only, the signatures of every region among them; with
    `replayed` also `state/`.  With `judged` the recorded packs are asked every recorded question
    again.  With `allow_undisclosed` a copy may lack contents: what refers to
    them is then not checked.
    Raises: LogError naming what does not hold.
    """
    agreements = read_agreements(directory / "agreement")
    newest = parse_agreement((directory / "agreement" / AGREEMENT_NAME).read_bytes())
    owner = RegionId(region) if region else _owner(directory, newest)
    retrial = Retrial() if judged else None
    audit = Audit(
        owner=owner,
        agreements=agreements,
        whole=judged or not allow_undisclosed,
        retrial=retrial,
    )
    report = _verify(directory, newest, audit)
    if report.undisclosed and (replayed or judged or not allow_undisclosed):
        raise LogError(
            f"{directory / 'log'}: the contents of {report.undisclosed} of "
            f"{report.checkpoint.size} entries are not here, so that nothing is known of them; ask "
            "their region, or accept that with --allow-undisclosed (not for a replay, and not to "
            "judge again)"
        )
    _check_agreed(directory / "agreement", audit)
    merges = recorded_merges(audit) if replayed else []
    best = _best_cosigned(directory, newest, owner)
    return Verified(
        region=owner,
        size=report.checkpoint.size,
        cosigned_size=best.checkpoint.size,
        cosigned_by=tuple(sorted(best.cosigned_by)),
        intents=audit.count("intent"),
        arrivals=audit.count("arrival"),
        receipts=audit.count("receipt"),
        refusals=audit.count("refusal"),
        admissions=audit.count("admission"),
        merges=audit.count("merge"),
        releases=audit.count("release"),
        replayed=replay(merges, files=directory / "state"),
        judged=0 if retrial is None else retrial.judged,
        undisclosed=report.undisclosed,
        pending=report.pending,
    )


def read_agreements(folder: Path) -> dict[str, Agreement]:
    """Every agreement that was ever in force here, by digest."""
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise ConfigError(f"{folder}: expected {AGREEMENT_NAME}, the keys to verify with")
    agreements = [parse_agreement(file.read_bytes()) for file in files]
    return {agreement.digest: agreement for agreement in agreements}


def best_note(log: LogReader, index: int) -> str:
    """The retained checkpoint over entry `index` with the most cosignatures, the newest of those.

    Raises: LogError when none covers it.
    """
    covering = [
        note
        for note in log.checkpoints()
        if Checkpoint.from_text(Note.from_text(note).text).size > index
    ]
    if not covering:
        raise LogError(f"no checkpoint covers entry {index}; the log has {log.size} entries")
    return max(covering, key=lambda note: len(Note.from_text(note).signatures))


def audit_log(directory: Path) -> Audit:
    """Verify a home's log and return all of it, entry by entry."""
    newest = parse_agreement((directory / "agreement" / AGREEMENT_NAME).read_bytes())
    agreements = read_agreements(directory / "agreement")
    audit = Audit(owner=_owner(directory, newest), agreements=agreements)
    _verify(directory, newest, audit)
    _check_agreed(directory / "agreement", audit)
    return audit


def read_audit(home: Home) -> Audit:
    """What a region's log says so far, while its processes may be writing it.

    Every signature and every reference is checked; the tree is not (`log verify` does).
    Raises: LogError when an entry does not hold, or its content is not here.
    """
    audit = Audit(owner=home.region, agreements=read_agreements(home.agreement))
    log = LogReader(home.log)
    size = log.durable_size
    for opening in log.openings(0, size):
        audit.read(opening.index, opening.content)
    if len(audit.seen) != size:
        raise LogError(
            f"{home.log}: expected the contents of {size} entries, got {len(audit.seen)}; restore "
            "them from a backup, or see 'ringfence log verify'"
        )
    return audit


def recorded_merges(audit: Audit) -> list[Merge]:
    """The merges that an audited log records, in order; a repetition after a crash counts once."""
    merges: dict[tuple[str, int, str, tuple[str, ...]], Merge] = {}
    for of_round in audit.merges.values():
        for merge in of_round:
            merges[merge.lineage, merge.round, merge.payload, merge.statements] = merge
    return sorted(merges.values(), key=lambda merge: merge.index)


def _check_agreed(folder: Path, audit: Audit) -> None:
    """Every region has signed every agreement that anything crossed under."""
    for digest in sorted(audit.used):
        agreement = audit.agreements[digest]
        try:
            check_signatures(agreement, read_signatures(folder, agreement))
        except Error as error:
            raise LogError(f"{folder}: crossings under {digest}: {error}") from error


def _best_cosigned(directory: Path, agreement: Agreement, owner: RegionId) -> SignedCheckpoint:
    return open_checkpoint(
        best_note(LogReader(directory / "log"), 0),
        log_key=NoteKey.from_text(agreement.region(owner).log_key),
        witnesses=_witnesses(agreement, owner),
    )


def _witnesses(agreement: Agreement, owner: RegionId) -> list[NoteKey]:
    return [
        NoteKey.from_text(agreement.region(name).witness_key)
        for name in agreement.regions()
        if name != owner
    ]


def _verify(directory: Path, agreement: Agreement, audit: Audit) -> Report:
    party = agreement.region(audit.owner)

    def each(opening: Opening) -> None:
        audit.read(opening.index, opening.content)

    return verify_log(
        directory / "log",
        log_key=NoteKey.from_text(party.log_key),
        witnesses=_witnesses(agreement, audit.owner),
        each=each,
    )


def _owner(directory: Path, agreement: Agreement) -> RegionId:
    """Whose log it is: the origin of its checkpoint names one region of the agreement."""
    origin = (directory / "log" / "checkpoint").read_text().split("\n", 1)[0]
    for name in agreement.regions():
        if NoteKey.from_text(agreement.region(name).log_key).name == origin:
            return name
    raise LogError(f"{directory}: its log is of {origin!r}, whom the agreement does not name")
