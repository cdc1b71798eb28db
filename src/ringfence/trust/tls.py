"""The border's TLS: version 1.3 only, both sides named, nothing resumed.

INVARIANT: a context is never changed once a connection has used it; OpenSSL does not lock it.  A
new leaf therefore comes in a new context, and `front_context` hands it to new connections.
"""

from __future__ import annotations

import _ssl
import logging
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.core.clock import Clock
from ringfence.core.errors import Error, TrustError
from ringfence.core.ids import RegionId
from ringfence.trust.peers import Anchor, Peer, check_anchors, judge_chain, require_peer

_log = logging.getLogger(__name__)

_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for (OpenSSL, X509_VERIFY_PARAM_set_flags)."""


def server_context(*, anchors: Mapping[RegionId, Anchor]) -> ssl.SSLContext:
    """Context of the hub's listener: demands a certificate under one of the agreed roots.

    The caller must still `load_leaf`, and call `verify_peer` on every connection.
    """
    check_anchors(anchors)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without tickets nothing can be resumed: every connection shows its certificate anew.
    context.num_tickets = 0
    _harden(context, b"".join(anchor.root_der for anchor in anchors.values()))
    # INVARIANT: OpenSSL does not look at the time here, `judge_chain` does, for all three
    # certificates.  So an expired leaf is refused under its region's name, which is then known,
    # instead of failing a handshake that nobody can put a name to.
    context.verify_flags |= _NO_CHECK_TIME
    return context


def client_context(*, hub: Anchor) -> ssl.SSLContext:
    """Context of a gateway's dialler: trusts the hub's root and no other.

    The caller must still `load_leaf`, and call `verify_peer` and `require_peer` on every
    connection: the peer is known by its SPIFFE id, never by a host name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _harden(context, hub.root_der)


def load_leaf(
    context: ssl.SSLContext, *, chain_pem: bytes, key: ec.EllipticCurvePrivateKey
) -> None:
    """Give a fresh `context` its certificate (leaf, then issuer) and key.

    `ssl` reads keys from files only, so the key passes through a memory file that has no name and
    is gone when this returns; it never touches a disk.  Raises: TrustError when they do not match.
    """
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.memfd_create("leaf", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(pem + chain_pem)
        memory.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}")
        except ssl.SSLError as error:
            raise TrustError(f"leaf certificate: does not fit its key ({error.reason})") from error


def front_context(
    *, anchors: Mapping[RegionId, Anchor], current: Callable[[], ssl.SSLContext]
) -> ssl.SSLContext:
    """A listener's constant context that serves each new connection from `current()`.

    It holds no certificate itself: when `current` raises, the handshake fails.
    """
    context = server_context(anchors=anchors)

    def choose(
        connection: ssl.SSLObject, _server_name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        # OpenSSL asks at every ClientHello, also without a server name.
        try:
            connection.context = current()
        except Error as error:
            _log.warning("handshake refused: %s", error)
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        return None

    context.sni_callback = choose
    return context


def verify_peer(
    connection: ssl.SSLObject | ssl.SSLSocket,
    *,
    anchors: Mapping[RegionId, Anchor],
    now_s: float,
) -> Peer:
    """Name the other end after the handshake and before the first application byte.

    Raises: TrustError for any peer but a process of the region whose root vouches for it.
    """
    version = connection.version()
    if version != "TLSv1.3":
        raise TrustError(f"expected TLS 1.3 with the handshake done, got {version or 'none yet'}")
    return judge_chain(_verified_chain(connection), anchors=anchors, now_s=now_s)


def peer_verifier(
    *, anchors: Mapping[RegionId, Anchor], role: str, region: RegionId | None, clock: Clock
) -> Callable[[ssl.SSLObject | ssl.SSLSocket], Peer]:
    """`verify_peer` for one end of the border, where only `role` (of `region`) may stand."""

    def verify(connection: ssl.SSLObject | ssl.SSLSocket) -> Peer:
        peer = verify_peer(connection, anchors=anchors, now_s=clock())
        require_peer(peer, region=region or peer.region, role=role)
        return peer

    return verify


def _verified_chain(connection: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """The chain that OpenSSL verified, leaf to root, DER; empty when it verified none."""
    if sys.version_info >= (3, 13):
        return list(connection.get_verified_chain())
    # Public since Python 3.13 only.  Unlike what the peer sent, it ends in the anchor used.
    inner: Any = connection._sslobj  # type: ignore[union-attr]
    return [item.public_bytes(_ssl.ENCODING_DER) for item in inner.get_verified_chain() or ()]


def _harden(context: ssl.SSLContext, roots_der: bytes) -> ssl.SSLContext:
    """Apply what both ends share.  `SSLContext()` reads no SSLKEYLOGFILE and no system roots."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    # Set, not added to: a partial chain must never end in anything but a root.
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=roots_der)
    return context
