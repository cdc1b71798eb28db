"""Files named by their digest: payloads and models at rest, and payloads still arriving.

    <root>/payloads/<hex>.safetensors     whole payloads
    <root>/incoming/<hex>.part            the first chunks of a payload, verified one by one
    <root>/models/<hex>.safetensors       models, named by their digest

Nothing under a final name is ever half written: a file is finished under another name and renamed.
Bytes are left to the page cache: a killed process loses nothing, and a machine that lost power may
lose any of them.  INVARIANT: no file counts as verified because it exists.  This process remembers
what it wrote or has read whole; `holds` and `holds_model` read everything else before they say yes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from ringfence.core import ids
from ringfence.core.artifacts import Payload
from ringfence.core.chunks import CHUNK_BYTES, ChunkedDigest, ChunkHasher, chunk_range
from ringfence.core.errors import FormatError, StateError
from ringfence.core.tensorfile import read_exactly
from ringfence.crossing.pages import LARGE_BYTES, Pages

_USED_UP = "used-up"
"""The file of a large payload that was discarded; the next one is written over it."""

_WRITE_BYTES = 256 * 1024
"""Written at once.  For larger pieces the kernel looks for pages that lie together, and those that
it finds are cold: 4 MiB at once can take twenty times as long (see `pages`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPayload:
    """A payload opened for reading from any position; who receives this closes `fd`."""

    fd: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fingerprint:
    """Tells a file from one that was written since; it is no protection from an attacker."""

    inode: int
    size_bytes: int
    changed_ns: int


@dataclass(slots=True, kw_only=True)
class _Arrival:
    """What every `Arriving` of one payload shares: how many of its chunks are verified.

    `verified` is None until the chunks that a former process left were counted; once `closed`, it
    was finished or discarded, and nothing of it is written any more.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    verified: int | None = None
    closed: bool = False


@dataclass(slots=True, weakref_slot=True)
class _Fetch:
    """One thread's turn at a payload; it is known as long as somebody has it or waits for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)


class Spool:
    """The payload and model files of one place; for use from any thread of one process."""

    def __init__(self, root: Path, *, pages: Pages | None = None) -> None:
        """Open the spool in `root`; a nested one shares the `pages` of the one around it."""
        self.pages = pages or Pages()
        self._root = root
        self._lock = threading.Lock()
        self._arrivals: dict[str, _Arrival] = {}
        self._fetches: WeakValueDictionary[str, _Fetch] = WeakValueDictionary()
        self._verified: dict[Path, _Fingerprint] = {}
        self._nested: dict[str, Spool] = {}
        for part in ("payloads", "incoming", "models"):
            (root / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def nested(self, name: str) -> Spool:
        """The spool in the folder `name` below this one; the same object each time."""
        with self._lock:
            if name not in self._nested:
                self._nested[name] = Spool(self._root / name, pages=self.pages)
            return self._nested[name]

    def payload(self, digest: str) -> Path:
        return self._root / "payloads" / f"{_hex(digest)}.safetensors"

    def model(self, digest: str) -> Path:
        return self._root / "models" / f"{_hex(digest)}.safetensors"

    def scratch(self, name: str) -> Path:
        """A path for a file that is not finished yet, on the same file system."""
        return self._root / "incoming" / f"{name}.tmp"

    def keep_payload(self, scratch: Path, digest: str) -> Path:
        """Give a finished payload its name; the caller has hashed what it wrote."""
        return self.keep_file(scratch, self.payload(digest))

    def keep_model(self, scratch: Path, digest: str) -> Path:
        """Give a finished model its name; the caller has hashed what it wrote."""
        return self.keep_file(scratch, self.model(digest))

    def keep_file(self, scratch: Path, path: Path) -> Path:
        """Give any other finished file its name; the caller has hashed what it wrote."""
        written = _fingerprint(scratch)
        scratch.replace(path)
        if written is not None:
            self._remember(path, written)
        return path

    def write_over(self, path: Path, scratch: Path) -> bool:
        """Let `scratch` take over a large file that nobody needs any more, and its pages with it.

        Returns whether it did: the file is gone then.  A small one stays: its pages are few.  One
        that somebody still reads stays, too: a site maps the weights that it trains from.
        """
        known = _fingerprint(path)
        if known is None or known.size_bytes < LARGE_BYTES or not _is_ours_alone(path):
            return False
        path.replace(scratch)
        return True

    def holds(self, payload: Payload) -> bool:
        """Whether the payload's file is here and every chunk of it verifies."""
        path, chunked = self.payload(payload.digest), payload.chunked()
        return self._is_verified(path) or self._verify(path, chunked)

    def holds_model(self, digest: str) -> bool:
        """Whether the model's file is here and is the one that `digest` names."""
        return self.holds_file(self.model(digest), digest)

    def holds_file(self, path: Path, digest: str) -> bool:
        """Whether the file at `path` is here and is the one that `digest` names."""
        if self._is_verified(path):
            return True
        read = _fingerprint(path)
        if read is None or hash_file(path).digest != digest:
            return False
        self._remember(path, read)
        return True

    def arriving(self, payload: Payload) -> Arriving:
        """Open, or go on with, a payload that comes in chunk by chunk."""
        with self._lock:
            arrival = self._arrivals.setdefault(payload.digest, _Arrival())
        return Arriving(self, payload, arrival)

    @contextlib.contextmanager
    def fetching(self, payload: Payload) -> Iterator[Arriving]:
        """`arriving` for one thread at a time, from the first chunk until it is used up.

        Two lineages may want the same payload at once: both may start from one model.  The second
        begins where the first has left off, be it with a model in the payload's place.
        """
        with self._lock:
            fetch = self._fetches.setdefault(payload.digest, _Fetch())
        with fetch.lock:
            arriving = self.arriving(payload)
            try:
                yield arriving
            finally:
                arriving.close()

    def _verify(self, path: Path, chunked: ChunkedDigest) -> bool:
        read = _fingerprint(path)
        if read is None or read.size_bytes != chunked.size_bytes:
            return False
        if _good_chunks(path, chunked) < len(chunked.chunks):
            return False
        self._remember(path, read)
        return True

    def _is_verified(self, path: Path) -> bool:
        with self._lock:
            known = self._verified.get(path)
        return known is not None and known == _fingerprint(path)

    def _remember(self, path: Path, fingerprint: _Fingerprint) -> None:
        with self._lock:
            self._verified[path] = fingerprint

    def _forget(self, digest: str, arrival: _Arrival) -> None:
        with self._lock:
            if self._arrivals.get(digest) is arrival:
                del self._arrivals[digest]


class Arriving:
    """A payload on its way in; chunks come in order, each verified before it is written.

    Two transfers of one payload (a line that hangs, and the one that takes its place) share what is
    verified: a chunk is written once, at its place, and a chunk that is here already is only
    verified again.
    """

    def __init__(self, spool: Spool, payload: Payload, arrival: _Arrival) -> None:
        self._spool = spool
        self._digest = payload.digest
        self._chunked = payload.chunked()
        self._part = spool.scratch(_hex(payload.digest)).with_suffix(".part")
        self._whole = spool.payload(payload.digest)
        self._arrival = arrival
        self._fd = -1
        self._reused = False
        with arrival.lock:
            if arrival.verified is None or not (self._part.exists() or self._whole.exists()):
                arrival.verified = self._recover()

    @property
    def next_chunk(self) -> int:
        """How many leading chunks are here and verified."""
        return self._arrival.verified or 0

    @property
    def complete(self) -> bool:
        return self.next_chunk == len(self._chunked.chunks)

    def write(self, index: int, chunk: memoryview) -> None:
        """Verify chunk `index` and write it, unless it is here already.

        Raises: FormatError when the bytes are not the announced ones, or out of order; StateError
        when the payload was discarded meanwhile.
        """
        self._chunked.verify(index, chunk)
        with self._arrival.lock:
            if index > self.next_chunk:
                raise FormatError(f"expected chunk {self.next_chunk} next, got chunk {index}")
            if index < self.next_chunk:
                return
            if self._arrival.closed:
                raise self._discarded()
            if self._fd < 0:
                self._fd = self._open_part()
            if not self._reused:
                self._spool.pages.make_room(len(chunk))
            offset = index * CHUNK_BYTES
            done = 0
            while done < len(chunk):
                done += os.pwrite(self._fd, chunk[done : done + _WRITE_BYTES], offset + done)
            self._arrival.verified = index + 1

    def finish(self) -> Path:
        """Give the whole payload its name; returns its path.

        Every chunk of it was verified, by this process, before it counted.
        Raises: StateError when chunks are missing, or the payload was discarded meanwhile.
        """
        self.close()
        with self._arrival.lock:
            if not self.complete:
                raise StateError(
                    f"payload {self._digest}: {self.next_chunk} of "
                    f"{len(self._chunked.chunks)} chunks are here; send the rest"
                )
            if not self._arrival.closed:
                if self._part.exists():
                    self._spool.keep_payload(self._part, self._digest)
                self._close_arrival()
            if not self._whole.exists():
                raise self._discarded()
        return self._whole

    def chunks(self) -> Iterator[memoryview]:
        """The chunks that are here already, in order; each is valid until the next."""
        count = self.next_chunk
        if not count:
            return
        path = self._whole if self._whole.exists() else self._part
        buffer = memoryview(bytearray(CHUNK_BYTES))
        with path.open("rb", buffering=0) as file:
            for index in range(count):
                first, last = chunk_range(index, self._chunked.size_bytes)
                read_exactly(file.fileno(), first, buffer[: last - first])
                yield buffer[: last - first]

    def discard(self) -> None:
        """Forget the chunks of a payload that has been used up.

        A whole payload of the same bytes is somebody else's: a candidate made of one region's
        update alone is that update over again.
        """
        self.close()
        with self._arrival.lock:
            self._close_arrival()
            if self._chunked.size_bytes < LARGE_BYTES:
                self._part.unlink(missing_ok=True)
            else:
                with contextlib.suppress(FileNotFoundError):
                    self._part.replace(self._spool.scratch(_USED_UP))

    def close(self) -> None:
        """Let go; what was written stays for the next attempt."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open_part(self) -> int:
        """Open the chunks' file; a new one takes over the pages of one that was used up.

        What they held counts for nothing: only a chunk that verifies does.
        """
        if not self._part.exists() and self._chunked.size_bytes >= LARGE_BYTES:
            with contextlib.suppress(FileNotFoundError):
                self._spool.scratch(_USED_UP).replace(self._part)
                os.truncate(self._part, self._chunked.size_bytes)
                self._reused = True
        return os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _close_arrival(self) -> None:
        self._arrival.closed = True
        self._spool._forget(self._digest, self._arrival)

    def _discarded(self) -> StateError:
        return StateError(f"payload {self._digest}: was discarded meanwhile; start again")

    def _recover(self) -> int:
        """Count the leading chunks that verify of what is here; cut off what does not."""
        if self._spool._is_verified(self._whole) or self._spool._verify(self._whole, self._chunked):
            return len(self._chunked.chunks)
        if self._whole.exists():
            self._whole.replace(self._part)
        if not self._part.exists():
            return 0
        good = _good_chunks(self._part, self._chunked)
        os.truncate(self._part, min(good * CHUNK_BYTES, self._chunked.size_bytes))
        return good


def hash_file(path: Path) -> ChunkedDigest:
    """The digests of a whole file."""
    hasher = ChunkHasher()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.finish()


def _good_chunks(path: Path, chunked: ChunkedDigest) -> int:
    """How many leading chunks of the file verify."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        for index in range(len(chunked.chunks)):
            first, last = chunk_range(index, chunked.size_bytes)
            got = os.preadv(file.fileno(), [buffer[: last - first]], first)
            try:
                chunked.verify(index, buffer[:got])
            except FormatError:
                return index
    return len(chunked.chunks)


def _fingerprint(path: Path) -> _Fingerprint | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Fingerprint(inode=found.st_ino, size_bytes=found.st_size, changed_ns=found.st_mtime_ns)


def _is_ours_alone(path: Path) -> bool:
    """Whether no process has the file open or mapped: the kernel grants a lease only then.

    Source: fcntl(2), F_SETLEASE.  A file system without leases says no.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _hex(digest: str) -> str:
    return ids.digest(digest).partition(":")[2]
