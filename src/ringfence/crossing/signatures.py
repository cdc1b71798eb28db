"""Signatures of the agreement: each region signs the digest of the bytes that it holds.

    <agreement folder>/signatures/<agreement's hex>/<region>.dsse.json

A run keeps every region's signature there before anything crosses, so that an auditor needs nobody
to show that all of them agreed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ringfence.core import canonical
from ringfence.core.agreement import Agreement
from ringfence.core.errors import Refused, TrustError
from ringfence.core.ids import RegionId
from ringfence.ledger.files import make_directory, read_file, replace_file, sync_directory
from ringfence.trust.dsse import open_envelope, seal
from ringfence.trust.keys import Signer

AGREEMENT_PAYLOAD_TYPE = "application/vnd.ringfence.agreement+json"
_LIMIT_BYTES = 16 * 1024
_SUFFIX = ".dsse.json"


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agreement: str
    region: str


def sign_agreement(agreement: Agreement, region: RegionId, signer: Signer) -> bytes:
    """Seal the agreement's digest with a region's statement key; returns the DSSE envelope."""
    payload = canonical.to_bytes(_Signature(agreement=agreement.digest, region=region))
    return seal(payload, payload_type=AGREEMENT_PAYLOAD_TYPE, signer=signer)


def check_signature(agreement: Agreement, region: RegionId, envelope: bytes) -> None:
    """Verify that `envelope` is the signature of `region` on exactly this agreement.

    Raises: FormatError or TrustError when it does not hold; Refused when it holds for other bytes.
    """
    payload = open_envelope(
        envelope,
        public_key=agreement.region(region).statement_public_key(),
        payload_type=AGREEMENT_PAYLOAD_TYPE,
        limit_bytes=_LIMIT_BYTES,
        what=f"agreement signature of {region}",
    )
    signature = canonical.from_bytes(
        payload, _Signature, what="agreement signature", limit_bytes=_LIMIT_BYTES
    )
    if (signature.agreement, signature.region) != (agreement.digest, region):
        raise Refused(
            stage="agreement",
            reason="another-agreement",
            detail=f"{region} signed {signature.agreement} as {signature.region}, expected "
            f"{agreement.digest}; compare the two files byte by byte and sign one of them",
        )


def missing_signatures(agreement: Agreement, signatures: Mapping[str, bytes]) -> list[str]:
    """Regions whose signature is not here, sorted."""
    return sorted(set(agreement.regions()) - set(signatures))


def check_signatures(agreement: Agreement, signatures: Mapping[str, bytes]) -> None:
    """Verify the signature of every region; raises as `check_signature`, or TrustError.

    A run starts only when this returns.
    """
    if missing := missing_signatures(agreement, signatures):
        raise TrustError(
            f"agreement {agreement.digest}: not signed by {', '.join(missing)}; each region signs "
            "with 'ringfence agree'"
        )
    for region in agreement.regions():
        check_signature(agreement, region, signatures[region])


def keep_signatures(folder: Path, agreement: Agreement, signatures: Mapping[str, bytes]) -> None:
    """Write signatures that were checked into the agreement folder; durable when this returns."""
    directory = _directory(folder, agreement)
    make_directory(directory)
    # Names come from the agreement: others may be anything, a path too.
    for region in set(agreement.regions()).intersection(signatures):
        path = directory / f"{region}{_SUFFIX}"
        replace_file(path, signatures[region], scratch=path.with_suffix(".new"))
    sync_directory(directory)


def read_signatures(folder: Path, agreement: Agreement) -> dict[str, bytes]:
    """The signatures that are kept here of an agreement, by region; nothing is checked."""
    paths = sorted(_directory(folder, agreement).glob(f"*{_SUFFIX}"))
    return {
        path.name.removesuffix(_SUFFIX): read_file(path, limit_bytes=_LIMIT_BYTES) for path in paths
    }


def _directory(folder: Path, agreement: Agreement) -> Path:
    return folder / "signatures" / agreement.digest.partition(":")[2]
