"""Merges a round's spooled updates into a candidate, block by block, to the same bytes each time.

The candidate is an encoded merged update; adding it to the parent release gives the new model.
Everything that goes in is fixed before: the contributors by the journal, the order by region id,
the arithmetic by `learn`, the rounding by a seed derived from what was merged.  A restart therefore
repeats the merge, and an auditor replays it from the spool (`replay.py`) with the same functions.

Payloads, models and momentum are not forced to disk, which would cost every round the writing of
them.  After a machine lost power some may be damaged: a merge first asks the spool whether each
file is the one that its digest names, which costs nothing for those that this process wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ringfence.codec.apply import apply_update
from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile, encode
from ringfence.codec.rounding import release_seed
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.inbox import Submission
from ringfence.coordinator.journal import Candidate, Round
from ringfence.core import ids
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration, payload_of
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import LogError, Refused, StateError
from ringfence.core.ids import RegionId
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.terms import Lineage
from ringfence.crossing.ancestry import check_tags, merged_tags
from ringfence.crossing.entries import Entry
from ringfence.crossing.spool import hash_file
from ringfence.crossing.statements import open_statement
from ringfence.learn.merge import Contribution, weighted_mean
from ringfence.learn.outer import Momentum, keeps_momentum, outer_step

_MOMENTUM = "momentum"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledUpdate:
    """One region's verified payload and how many examples it counts for."""

    region: RegionId
    examples: int
    payload: str
    path: Path


def merge_round(hub: Hub, round_: Round) -> Candidate:
    """Merge the round's contributors; the payload and the model lie in the spool afterwards.

    Raises: Refused when the tags of an update are not those of its ancestry.
    """
    agreement = hub.region.agreement
    lineage = agreement.lineage(round_.lineage)
    chosen = _chosen(hub, round_)
    declared = [_declaration(hub, submission) for submission in chosen]
    tags = _tags(hub, round_, declared)
    updates = [
        SpooledUpdate(
            region=RegionId(submission.region),
            examples=declaration.examples,
            payload=submission.payload,
            path=hub.spool_of(submission.region).payload(submission.payload),
        )
        for submission, declaration in zip(chosen, declared, strict=True)
    ]
    _require_files(hub, round_, declared)
    hub.spool.pages.make_room(2 * agreement.model_layout.size_bytes)  # candidate and model
    last = hub.journal.release(lineage.id)
    scratch = hub.spool.scratch(f"candidate-{lineage.id}")
    momentum_scratch = hub.spool.scratch(f"momentum-{lineage.id}")
    payload = payload_of(
        encode_merged(
            agreement,
            lineage,
            updates,
            parent=round_.parent,
            momentum_before=_momentum_before(hub, lineage, last.round if last else 0),
            momentum_after=momentum_scratch,
            out=scratch,
        )
    )
    if keeps_momentum(lineage.outer):
        _keep_momentum(hub, round_, momentum_scratch, still_needed=last.round if last else 0)
    path = hub.spool.keep_payload(scratch, payload.digest)
    model_scratch = hub.spool.scratch(f"model-{lineage.id}")
    model = apply_merged(
        agreement, payload=path, base=hub.spool.model(round_.parent), out=model_scratch
    )
    hub.spool.keep_model(model_scratch, model.digest)
    _let_go(hub, round_, updates)
    hub.region.record(
        Entry(
            kind="merge",
            at=to_rfc3339(hub.region.clock()),
            counterparty=hub.region.id,
            lineage=round_.lineage,
            round=round_.round,
            subject=payload.digest,
            inputs=(round_.parent, model.digest, *(s.statement for s in chosen)),
        )
    )
    return Candidate(
        payload=payload,
        model=model.digest,
        jurisdictions=tags,
        updates=tuple(submission.payload for submission in chosen),
    )


def candidate_tags(hub: Hub, round_: Round) -> tuple[str, ...]:
    """The union of the tags of what was merged, from the statements that arrived, and nowhere else.

    Raises: Refused when one of them does not bear the tags of its own ancestry.
    """
    return _tags(hub, round_, [_declaration(hub, each) for each in _chosen(hub, round_)])


def _tags(hub: Hub, round_: Round, declared: Sequence[Declaration]) -> tuple[str, ...]:
    agreement = hub.region.agreement
    lineage = agreement.lineage(round_.lineage)
    release = hub.journal.release(round_.lineage)
    if release is None:
        raise StateError(f"{round_.lineage} round {round_.round}: merged without a release before")
    for update in declared:
        try:
            check_tags(update, agreement, lineage, inherited=release.jurisdictions)
        except LogError as error:
            raise Refused(stage="round", reason="wrong-tags", detail=str(error)) from error
    return merged_tags(agreement, declared, inherited=release.jurisdictions)


def _let_go(hub: Hub, round_: Round, updates: Sequence[SpooledUpdate]) -> None:
    """What this merge has read, and the candidate before it, nobody reads soon."""
    before = hub.journal.round(round_.lineage, round_.round - 1)
    if before is not None and before.candidate is not None:
        hub.spool.pages.let_go(hub.spool.payload(before.candidate.payload.digest))
    for path in (hub.spool.model(round_.parent), *(update.path for update in updates)):
        hub.spool.pages.let_go(path)


def encode_merged(
    agreement: Agreement,
    lineage: Lineage,
    updates: Sequence[SpooledUpdate],
    *,
    parent: str,
    momentum_before: Path | None,
    momentum_after: Path,
    out: Path,
) -> ChunkedDigest:
    """Write the encoded outer step on the weighted mean of `updates` to `out`.

    `momentum_before` is the file after the lineage's last release (None before the first), and
    `momentum_after` takes the new one; neither is touched when the optimiser keeps none.
    """
    codecs = agreement.terms.codecs
    layout = agreement.update_layout
    update_form = PayloadFormat(codec=codecs.updates, layout=layout)
    release_form = PayloadFormat(codec=codecs.releases, layout=layout)
    seed = release_seed(
        parent=ids.digest(parent), payloads=[ids.digest(update.payload) for update in updates]
    )
    with ExitStack() as files:
        contributions = [
            Contribution(
                region=update.region,
                examples=update.examples,
                add=files.enter_context(PayloadFile(update_form, update.path)).add,
            )
            for update in updates
        ]
        momentum = None
        if keeps_momentum(lineage.outer):
            old = momentum_before
            momentum = Momentum(
                old=files.enter_context(open_tensorfile(old)) if old else None,
                new_fd=files.enter_context(_open_new(momentum_after)),
            )
        step = outer_step(weighted_mean(contributions), layout, lineage.outer, momentum=momentum)
        fd = files.enter_context(_open_new(out))
        return encode(release_form, step, fd, seed=seed)


def apply_merged(agreement: Agreement, *, payload: Path, base: Path, out: Path) -> ChunkedDigest:
    """Write `base` plus the decoded `payload` to `out`; every region must get the same bytes."""
    form = PayloadFormat(codec=agreement.terms.codecs.releases, layout=agreement.update_layout)
    with ExitStack() as files:
        payload_file = files.enter_context(payload.open("rb", buffering=0))
        return apply_update(
            form,
            model=agreement.model_layout,
            base=files.enter_context(open_tensorfile(base)),
            payload_fd=payload_file.fileno(),
            model_fd=files.enter_context(_open_new(out)),
        )


def _require_files(hub: Hub, round_: Round, declared: Sequence[Declaration]) -> None:
    """Raise `StateError` unless parent and updates are, byte for byte, what their digests name."""
    if not hub.spool.holds_model(round_.parent):
        raise StateError(
            f"{round_.lineage} round {round_.round}: its parent model {round_.parent} is gone or "
            "damaged here; take the file from a region that admitted it and give it to "
            "'ringfence coordinator --initial'"
        )
    for declaration in declared:
        assert declaration.payload is not None  # intake refused any other
        if not hub.spool_of(declaration.sender).holds(declaration.payload):
            raise StateError(
                f"{round_.lineage} round {round_.round}: the payload of {declaration.sender} is "
                "gone or damaged here, after its receipt was signed; the round cannot be merged"
            )


def _momentum_before(hub: Hub, lineage: Lineage, released: int) -> Path | None:
    """The momentum after the lineage's release of round `released`, None before the first.

    A held round leaves the file of the release before it untouched.  Raises: StateError when it is
    missing or damaged: to go on without it would be another optimiser than the agreed one.
    """
    if not keeps_momentum(lineage.outer) or not released:
        return None
    found = _momentum_files(hub, lineage.id).get(released, [])
    if len(found) != 1 or not hub.spool.holds_file(found[0], _named_digest(found[0])):
        raise StateError(
            f"{lineage.id}: the momentum after round {released} is gone or damaged here; restore "
            f"{hub.files / _MOMENTUM} from a backup, or agree on a new lineage from the release"
        )
    return found[0]


def _keep_momentum(hub: Hub, round_: Round, scratch: Path, *, still_needed: int) -> None:
    """Name the momentum after its lineage, round and digest; forget what no merge needs again.

    If the process dies in here, the round is merged again and this is repeated.
    """
    folder = hub.files / _MOMENTUM
    folder.mkdir(mode=0o700, exist_ok=True)
    algorithm, _, value = hash_file(scratch).digest.partition(":")
    kept = folder / f"{round_.lineage}-{round_.round}.{algorithm}.{value}.safetensors"
    hub.spool.keep_file(scratch, kept)
    for number, paths in _momentum_files(hub, round_.lineage).items():
        for path in paths:
            if path != kept and number != still_needed:
                path.unlink()


def _momentum_files(hub: Hub, lineage: str) -> dict[int, list[Path]]:
    """The momentum files of a lineage by round."""
    files: dict[int, list[Path]] = {}
    for path in (hub.files / _MOMENTUM).glob(f"{lineage}-*.safetensors"):
        number = path.name.removeprefix(f"{lineage}-").partition(".")[0]
        if number.isdecimal():
            files.setdefault(int(number), []).append(path)
    return files


def _named_digest(momentum: Path) -> str:
    _, algorithm, value, _ = momentum.name.rsplit(".", 3)
    return f"{algorithm}:{value}"


def _chosen(hub: Hub, round_: Round) -> list[Submission]:
    submissions = hub.inbox.submissions(round_.lineage, round_.round)
    chosen = [s for s in submissions if s.receipt and s.region in round_.contributors]
    if tuple(s.region for s in chosen) != round_.contributors:
        raise StateError(
            f"{round_.lineage} round {round_.round}: the journal lacks an update of "
            f"{sorted(set(round_.contributors) - {s.region for s in chosen})}"
        )
    return chosen


def _declaration(hub: Hub, submission: Submission) -> Declaration:
    return open_statement(hub.region, submission.envelope, sender=RegionId(submission.region))


@contextmanager
def _open_new(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)
