"""Whom a verified certificate chain names: judged against the agreement, region by region.

OpenSSL has verified signatures, name constraints and purposes in the handshake, but against the
roots of all regions at once, under which any region's root could name another's processes.  Here
the chain must end in the one root that the agreement names for exactly the region it claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import FormatError, TrustError
from ringfence.core.ids import RegionId
from ringfence.trust.certificates import LEAF_LIFETIME_S, constrained_domain
from ringfence.trust.encoding import from_der, public_key_of
from ringfence.trust.names import SpiffeId, parse_spiffe_id, parse_trust_domain

_UNREADABLE = (
    ValueError,
    FormatError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
_PURPOSES = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What the agreement names for one region: its trust domain and its root certificate, DER."""

    trust_domain: str
    root_der: bytes

    def __post_init__(self) -> None:
        parse_trust_domain(self.trust_domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is on the other end.  The connection must close at `not_after_s` (Unix seconds)."""

    region: RegionId
    role: str
    not_after_s: float


class UntrustedPeerError(TrustError):
    """A chain that ends in the root of `region`, and does not hold for another reason.

    The region is known, so that the refusal can be recorded under its name.
    """

    def __init__(self, message: str, *, region: RegionId) -> None:
        super().__init__(message)
        self.region = region


def check_anchors(anchors: Mapping[RegionId, Anchor]) -> None:
    """Raise `TrustError` unless regions share no trust domain, root, root's key or root's name.

    With two roots of one name OpenSSL might build a chain to the wrong one and shut a region out.
    """
    if not anchors:
        raise TrustError("trust anchors: expected at least one region, got none")
    roots = {region: _root(region, anchor) for region, anchor in anchors.items()}
    distinct: dict[str, set[str] | set[bytes]] = {
        "trust domain": {anchor.trust_domain for anchor in anchors.values()},
        "root key": {public_key_of(root) for root in roots.values()},
        "root subject": {root.subject.public_bytes() for root in roots.values()},
    }
    for what, values in distinct.items():
        if len(values) != len(anchors):
            raise TrustError(
                f"trust anchors of {sorted(anchors)}: two regions share one {what}; "
                "each needs its own, so change the agreement"
            )


def judge_chain(
    chain_der: Sequence[bytes], *, anchors: Mapping[RegionId, Anchor], now_s: float
) -> Peer:
    """Name the peer behind a chain (leaf, issuer, root) whose signatures were verified before.

    Raises: TrustError for anything but one leaf of at most four hours, valid at `now_s`, under the
    name-constrained issuer and the root of the region that owns the leaf's only name.
    """
    try:
        return _judge(chain_der, anchors=anchors, now_s=now_s)
    except _UNREADABLE as error:
        # A certificate that lacks an extension, or holds one that does not parse, is no peer's.
        raise TrustError(f"peer certificate: {error}") from error


def require_peer(peer: Peer, *, region: RegionId, role: str) -> None:
    """Raise `TrustError` unless `peer` is who was dialled."""
    if (peer.region, peer.role) != (region, role):
        raise TrustError(
            f"expected {role} of region {region!r} on the other end, got {peer.role} of "
            f"{peer.region!r}; check the address that the agreement names"
        )


def region_of(identity: SpiffeId, *, anchors: Mapping[RegionId, Anchor]) -> RegionId:
    """The region that owns the trust domain of `identity`; raises `TrustError` if none does."""
    for region, anchor in anchors.items():
        if anchor.trust_domain == identity.trust_domain:
            return region
    raise TrustError(
        f"{identity.uri}: the agreement names no region of this trust domain; "
        f"it has {sorted(anchor.trust_domain for anchor in anchors.values())}"
    )


def _judge(chain_der: Sequence[bytes], *, anchors: Mapping[RegionId, Anchor], now_s: float) -> Peer:
    # 1  Three certificates; a leaf that signed another leaf would make four.
    if len(chain_der) != 3:
        raise TrustError(
            f"peer certificate: expected a chain of leaf, issuer and root, got {len(chain_der)}"
        )
    leaf, issuer, root = (from_der(der, what="peer certificate") for der in chain_der)
    # 2  One name, and it is a SPIFFE id; a common name or a host name counts for nothing.
    identity = _only_name(leaf)
    # 3  The root is, byte for byte, the one agreed for the region that owns this name.
    region = region_of(identity, anchors=anchors)
    if chain_der[2] != anchors[region].root_der:
        raise TrustError(
            f"{identity.uri}: expected a chain that ends in the root of region {region!r}, "
            f"got one that ends in {root.subject.rfc4514_string()}; another region minted it"
        )
    try:
        return _judge_of(region, identity, (leaf, issuer, root), now_s=now_s)
    except TrustError as error:
        raise UntrustedPeerError(str(error), region=region) from error


def _judge_of(
    region: RegionId,
    identity: SpiffeId,
    chain: tuple[x509.Certificate, x509.Certificate, x509.Certificate],
    *,
    now_s: float,
) -> Peer:
    """The rest of `_judge`: the chain is the region's own; does it hold?"""
    leaf, issuer, root = chain
    # 4  The issuer in between may name only that region's processes.
    if constrained_domain(issuer) != identity.trust_domain:
        raise TrustError(f"{identity.uri}: the issuer is constrained to another trust domain")
    # 5  The leaf signs no certificates and serves both ends of a connection, nothing else.
    _check_purposes(leaf, identity)
    # 6  Short-lived, and within every certificate's life now.
    lifetime_s = _not_after_s(leaf) - leaf.not_valid_before_utc.timestamp()
    if lifetime_s > LEAF_LIFETIME_S:
        raise TrustError(
            f"{identity.uri}: expected a leaf of at most {LEAF_LIFETIME_S} s, "
            f"got one of {lifetime_s:.0f} s"
        )
    for certificate in (leaf, issuer, root):
        _check_valid(certificate, identity, now_s=now_s)
    not_after_s = min(_not_after_s(certificate) for certificate in (leaf, issuer, root))
    return Peer(region=region, role=identity.role, not_after_s=not_after_s)


def _only_name(leaf: x509.Certificate) -> SpiffeId:
    names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise TrustError(
            f"peer certificate: expected one name, a SPIFFE id, got {len(names)} names "
            f"of types {sorted({type(name).__name__ for name in names})}"
        )
    return parse_spiffe_id(names[0].value)


def _check_purposes(leaf: x509.Certificate, identity: SpiffeId) -> None:
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca or usage.key_cert_sign:
        raise TrustError(f"{identity.uri}: expected a leaf, got a certificate authority")
    if not usage.digital_signature or purposes != _PURPOSES:
        raise TrustError(
            f"{identity.uri}: expected a leaf for digital signatures of clients and servers only"
        )


def _check_valid(certificate: x509.Certificate, identity: SpiffeId, *, now_s: float) -> None:
    start_s, end_s = certificate.not_valid_before_utc.timestamp(), _not_after_s(certificate)
    if not start_s <= now_s < end_s:
        raise TrustError(
            f"{identity.uri}: its chain holds a certificate valid from {to_rfc3339(start_s)} to "
            f"{to_rfc3339(end_s)}, and now is {to_rfc3339(now_s)}; renew it, or set the clock"
        )


def _not_after_s(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _root(region: RegionId, anchor: Anchor) -> x509.Certificate:
    return from_der(anchor.root_der, what=f"root certificate of region {region!r}")
