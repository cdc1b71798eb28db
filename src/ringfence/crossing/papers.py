"""The approvals that a region holds: files that counsel signed, read anew when they change."""

from __future__ import annotations

from pathlib import Path

from ringfence.core.agreement import Agreement
from ringfence.core.errors import ConfigError, Error, TrustError
from ringfence.policy.approvals import APPROVAL_LIMIT_BYTES, Approval, approval_from_bytes
from ringfence.trust.dsse import open_envelope, seal
from ringfence.trust.keys import Signer

APPROVAL_PAYLOAD_TYPE = "application/vnd.ringfence.approval+json"
_ENVELOPE_LIMIT_BYTES = 2 * APPROVAL_LIMIT_BYTES


def seal_approval(approval: Approval, signer: Signer) -> bytes:
    """Counsel's signature over exactly this approval; returns the DSSE envelope."""
    return seal(approval.to_bytes(), payload_type=APPROVAL_PAYLOAD_TYPE, signer=signer)


def open_approval(agreement: Agreement, envelope: bytes, *, what: str) -> Approval:
    """Verify and parse one approval, signed by counsel of a region whose operator holds it.

    Raises: TrustError when no such counsel signed it; FormatError when it does not parse.
    """
    for party in agreement.terms.regions:
        for key in party.counsel_public_keys():
            try:
                data = open_envelope(
                    envelope,
                    public_key=key,
                    payload_type=APPROVAL_PAYLOAD_TYPE,
                    limit_bytes=_ENVELOPE_LIMIT_BYTES,
                    what=what,
                )
            except TrustError:
                continue
            approval = approval_from_bytes(data)
            if approval.holder == party.operator:
                return approval
    raise TrustError(
        f"{what}: expected the signature of counsel of the operator that holds it; "
        "have that operator's counsel sign it"
    )


class Papers:
    """The approvals in a directory of `*.dsse.json` files.

    A file that is added, changed or removed counts from the next decision on.
    """

    def __init__(self, directory: Path, agreement: Agreement) -> None:
        self._directory = directory
        self._agreement = agreement
        self._parsed: dict[tuple[str, int, int], Approval] = {}

    def read(self) -> tuple[Approval, ...]:
        """Every approval that is there now.

        Raises: ConfigError when one does not hold: a directory with a forged paper in it is looked
        into by a person before anything crosses.
        """
        parsed = {}
        for path in sorted(self._directory.glob("*.dsse.json")):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # removed since the folder was listed
            key = (path.name, stat.st_mtime_ns, stat.st_size)
            approval = self._parsed.get(key)
            if approval is None:
                approval = self._open(path)
            parsed[key] = approval
        self._parsed = parsed
        return tuple(parsed.values())

    def _open(self, path: Path) -> Approval:
        try:
            return open_approval(self._agreement, path.read_bytes(), what=str(path))
        except (Error, OSError) as error:
            raise ConfigError(f"{error}; mend or remove {path}") from error
