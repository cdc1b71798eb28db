"""Offline verification of a whole log directory, with nothing but public keys.

Numbered steps, each standing on those before it:

    1 the checkpoint: log signature, origin, cosignatures
    2 the entries hash to the checkpoint's root, and every file under `tile/` is what they give
    3 every retained checkpoint is signed, and its root is this tree's at its size
    4 every commitment is its entry; those behind the checkpoint are pending
    5 every content that is here fits its commitment

What this cannot show: that the log holds everything that happened, and that nobody was shown
another log.  Receipts and cosignatures narrow that gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ringfence.core.errors import FormatError, LogError, TrustError
from ringfence.ledger.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from ringfence.ledger.contents import Opening, contents_path, read_openings
from ringfence.ledger.keys import NoteKey
from ringfence.ledger.merkle import HASH_BYTES
from ringfence.ledger.recovery import COMMITMENTS
from ringfence.ledger.retained import CHECKPOINT, CHECKPOINTS, read_note
from ringfence.ledger.tiles import TILE_WIDTH, bundle_path
from ringfence.ledger.treefiles import build_tree, check_tiles, files_under, read_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What held: a whole log as of its checkpoint.

    `disclosed` entries have their content here, `undisclosed` have not; `pending` ones are
    acknowledged and will be under the next checkpoint.  `unknown_lines` are signature lines, under
    all notes here, of keys that were not given: they prove nothing.
    """

    checkpoint: Checkpoint
    cosigned_by: frozenset[str]
    disclosed: int
    undisclosed: int
    pending: int
    tile_files: int
    checkpoints: int
    unknown_lines: int


def verify_log(
    directory: Path,
    *,
    log_key: NoteKey,
    witnesses: Iterable[NoteKey] = (),
    each: Callable[[Opening], None] | None = None,
) -> Report:
    """Check every byte of a log that nobody writes meanwhile (a copy, or an idle region's).

    `each` gets every content under the checkpoint that is here, in order of index and after the
    whole tree held; what it raises ends the verification.  Memory: about 100 bytes an entry.
    Raises: LogError naming the file, and the entry where there is one.
    """
    keys = tuple(witnesses)
    signed = _open(directory / CHECKPOINT, log_key, keys)  # 1
    notes = {directory / CHECKPOINT: signed, **_open_retained(directory, log_key, keys, signed)}
    size = signed.checkpoint.size
    entries = read_entries(directory, size)  # 2
    levels, roots = build_tree(entries, {note.checkpoint.size for note in notes.values()})
    # Tiles before the root: where they contradict the entries, they tell which entry it is.
    tile_files = check_tiles(directory, size, entries, levels)
    for path, note in notes.items():  # 3
        _check_root(path, note.checkpoint, roots[note.checkpoint.size])
    commitments = _read_commitments(directory, entries)  # 4
    disclosed = pending = 0
    for opening in _checked_openings(directory, commitments):  # 5
        if opening.index >= size:
            pending += 1
            continue
        disclosed += 1
        if each is not None:
            each(opening)
    if size + pending != len(commitments) // HASH_BYTES:
        raise LogError(
            f"{directory / COMMITMENTS}: expected the content of every entry from {size} on, as no "
            "checkpoint stands for these; a copy that discloses less leaves this file out"
        )
    return Report(
        checkpoint=signed.checkpoint,
        cosigned_by=signed.cosigned_by,
        disclosed=disclosed,
        undisclosed=size - disclosed,
        pending=pending,
        tile_files=tile_files,
        checkpoints=len(notes) - 1,
        unknown_lines=sum(
            len(note.note.signatures) - 1 - len(note.cosigned_by) for note in notes.values()
        ),
    )


def _open(path: Path, log_key: NoteKey, witnesses: tuple[NoteKey, ...]) -> SignedCheckpoint:
    try:
        return open_checkpoint(read_note(path), log_key=log_key, witnesses=witnesses)
    except (FormatError, TrustError, OSError) as error:
        raise LogError(f"{path}: {error}") from error


def _open_retained(
    directory: Path, log_key: NoteKey, witnesses: tuple[NoteKey, ...], newest: SignedCheckpoint
) -> dict[Path, SignedCheckpoint]:
    """Open the retained notes; the newest must be, byte for byte, the one in `checkpoint`."""
    folder = directory / CHECKPOINTS
    retained = {}
    for path in files_under(folder) if folder.is_dir() else ():
        signed = _open(path, log_key, witnesses)
        size = signed.checkpoint.size
        if path.relative_to(folder).as_posix() != str(size) or size > newest.checkpoint.size:
            raise LogError(
                f"{path}: expected a checkpoint of the size that is its name, at most "
                f"{newest.checkpoint.size}; got size {size}"
            )
        if size == newest.checkpoint.size and signed.note != newest.note:
            raise LogError(f"{path}: expected the same note as in {directory / CHECKPOINT}")
        retained[path] = signed
    return retained


def _check_root(path: Path, checkpoint: Checkpoint, root: bytes) -> None:
    if checkpoint.root != root:
        raise LogError(
            f"{path}: expected root {checkpoint.root.hex()} over the first {checkpoint.size} "
            f"entries, got {root.hex()}; entries were replaced, or the log signed two histories"
        )


def _read_commitments(directory: Path, entries: bytes) -> bytes:
    """Return the entries and the pending commitments behind them; a copy may lack the file."""
    path = directory / COMMITMENTS
    if not path.exists():
        return entries
    commitments = path.read_bytes()
    for at in range(0, len(entries), HASH_BYTES):
        if commitments[at : at + HASH_BYTES] != entries[at : at + HASH_BYTES]:
            index = at // HASH_BYTES
            bundle = directory / bundle_path(index // TILE_WIDTH)
            raise LogError(f"{path}: entry {index} is not what {bundle} holds")
    if len(commitments) % HASH_BYTES:
        raise LogError(
            f"{path}: cut off in entry {len(commitments) // HASH_BYTES}; if the log's process "
            "died, open the log once, then verify again"
        )
    return commitments


def _checked_openings(directory: Path, commitments: bytes) -> Iterator[Opening]:
    """Yield every opening that is here, in order, and account for every file and pending entry."""
    folder = directory / "contents"
    left = {*files_under(folder)} if folder.is_dir() else set()
    count = len(commitments) // HASH_BYTES
    for number in range(-(-count // TILE_WIDTH)):
        path = directory / contents_path(number)
        if path not in left:
            continue
        left.remove(path)
        for stored in read_openings(path):
            index = stored.opening.index
            expected = commitments[index * HASH_BYTES : (index + 1) * HASH_BYTES]
            if index // TILE_WIDTH != number or stored.commitment != expected:
                raise LogError(
                    f"{path}: the content of entry {index} does not fit its commitment in the "
                    f"log's entries or in {directory / COMMITMENTS}"
                )
            yield stored.opening
    for path in sorted(left):
        if path.stat().st_size:
            raise LogError(f"{path}: expected only contents of the {count} entries here")
