"""Reads a log as an outsider: every signature in it, and how its entries belong together.

intent      signed by the log's owner
arrival     signed by the counterparty, addressed to the owner
receipt     signed by the counterparty, for an intent that stands before it
merge       of statements whose arrival stands before it
admission   of a release whose statement the hub signed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import (
    Declaration,
    declaration_from_bytes,
    receipt_from_bytes,
    statement_digest,
)
from ringfence.core.errors import Error, LogError
from ringfence.core.ids import RegionId
from ringfence.core.wire import STATEMENT_LIMIT_BYTES
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import check_signature
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.trust.dsse import open_envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One entry that held, with the declaration that it carries, if any."""

    index: int
    entry: Entry
    declaration: Declaration | None


@dataclass(slots=True, kw_only=True)
class Audit:
    """Checks entries one by one, in order; `owner` is the region whose log it is.

    `agreements` are all that were ever in force, by digest: a statement names its own.
    """

    owner: RegionId
    agreements: Mapping[str, Agreement]
    seen: list[Seen] = field(default_factory=list)
    intents: set[str] = field(default_factory=set)
    arrivals: dict[str, Declaration] = field(default_factory=dict)

    def read(self, index: int, content: bytes) -> Seen:
        """Check the next entry.

        Raises: LogError naming the entry when a signature does not hold, or it refers to
        something that does not stand before it.
        """
        try:
            entry = Entry.from_bytes(content)
            seen = Seen(index=index, entry=entry, declaration=self._check(entry))
        except Error as error:
            raise LogError(f"entry {index}: {error}") from error
        self.seen.append(seen)
        return seen

    def count(self, kind: str) -> int:
        """How many entries of a kind there were."""
        return sum(seen.entry.kind == kind for seen in self.seen)

    def _check(self, entry: Entry) -> Declaration | None:
        match entry.kind:
            case "agreement":
                self._check_agreement(entry)
            case "intent":
                declaration = self._statement(entry, signer=self.owner)
                self.intents.add(entry.subject)
                return declaration
            case "arrival":
                declaration = self._statement(entry, signer=RegionId(entry.counterparty))
                self.arrivals[entry.subject] = declaration
                return declaration
            case "receipt":
                self._check_receipt(entry)
            case "merge":
                missing = [one for one in entry.inputs[2:] if one not in self.arrivals]
                if missing:
                    raise LogError(f"merges {missing[0]}, whose arrival is not recorded before it")
            case "admission":
                return self._statement(entry, signer=RegionId(entry.counterparty))
            case "refusal":
                if entry.refusal is None:
                    raise LogError("a refusal that says no reason")
        return None

    def _statement(self, entry: Entry, *, signer: RegionId) -> Declaration:
        envelope = entry.envelope.encode()
        declaration = declaration_from_bytes(self._open(envelope, signer))
        if declaration.sender != signer or declaration.agreement not in self.agreements:
            raise LogError(f"a statement of {declaration.sender} that {signer} cannot have made")
        if entry.kind != "admission" and entry.subject != statement_digest(envelope):
            raise LogError(f"names statement {entry.subject}, holds {statement_digest(envelope)}")
        return declaration

    def _check_receipt(self, entry: Entry) -> None:
        note = receipt_from_bytes(self._open(entry.envelope.encode(), RegionId(entry.counterparty)))
        if note.statement != entry.subject or note.statement not in self.intents:
            raise LogError(f"a receipt for {note.statement}, which was never sent")

    def _check_agreement(self, entry: Entry) -> None:
        agreement = self.agreements.get(entry.subject)
        if agreement is None:
            raise LogError(f"signs agreement {entry.subject}, which is not here")
        check_signature(agreement, self.owner, entry.envelope.encode())

    def _open(self, envelope: bytes, signer: RegionId) -> bytes:
        """Verify under the signer's key of any agreement that was in force."""
        keys = {
            agreement.region(signer).statement_public_key()
            for agreement in self.agreements.values()
            if signer in agreement.regions()
        }
        problem: Error = LogError(f"no agreement names region {signer!r}")
        for key in sorted(keys):
            try:
                return open_envelope(
                    envelope,
                    public_key=key,
                    payload_type=STATEMENT_PAYLOAD_TYPE,
                    limit_bytes=STATEMENT_LIMIT_BYTES,
                    what=f"statement of {signer}",
                )
            except Error as error:
                problem = error
        raise problem
