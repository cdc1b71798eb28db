"""A process's own short-lived certificate, renewed at half of its life while connections go on.

    with LeafKeeper(identity=gateway, anchors=anchors, hub=hub, ask_issuer=ask, clock=clock) as k:
        connection = k.client_context().wrap_socket(raw)

A connection keeps the leaf that it began with until that leaf's own notAfter; only new connections
see the new one.  The key is drawn here, for one leaf, and never leaves this process.
"""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.errors import BorderDownError, Error, TrustError
from ringfence.core.ids import RegionId
from ringfence.trust.certificates import create_request
from ringfence.trust.encoding import chain_from_pem, from_der, public_key_of, to_der
from ringfence.trust.keys import P256Signer
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor, Peer, judge_chain, region_of
from ringfence.trust.tls import client_context, front_context, load_leaf, server_context

_log = logging.getLogger(__name__)

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
"""Also the longest sleep: after a suspended machine wakes, a stale leaf is noticed within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One certificate in use, as the two contexts that present it; all times in Unix seconds."""

    server: ssl.SSLContext = field(repr=False)
    client: ssl.SSLContext = field(repr=False)
    not_before_s: float
    renew_at_s: float
    not_after_s: float

    def valid_at(self, now_s: float) -> bool:
        return self.not_before_s <= now_s < self.not_after_s


class LeafKeeper:
    """Holds the current leaf and asks the issuer for the next; open it as a context manager.

    `ask_issuer` takes a PKCS#10 request and returns the chain (leaf, issuer), both PEM; it may
    block, and raises when the issuer is down.  All methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        identity: SpiffeId,
        anchors: Mapping[RegionId, Anchor],
        hub: RegionId,
        ask_issuer: Callable[[bytes], bytes],
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._anchors = anchors
        self._hub = hub
        self._ask_issuer = ask_issuer
        self._clock = clock
        self._lock = threading.Lock()
        self._leaf: Leaf | None = None
        self._retry_s = RETRY_FIRST_S
        self._last_error = "the issuer was not asked yet"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leaf-keeper", daemon=True)
        self._front = front_context(anchors=anchors, current=lambda: self._current().server)

    def __enter__(self) -> LeafKeeper:
        """Ask the issuer once, so that a running issuer means a leaf at hand; then keep it."""
        self.renew_if_due()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def server_context(self) -> ssl.SSLContext:
        """The listener's context, always the same object; each handshake takes the current leaf."""
        return self._front

    def client_context(self) -> ssl.SSLContext:
        """Context for one new connection to the hub.

        Raises: BorderDownError while there is no valid leaf, because the issuer is down.
        """
        return self._current().client

    @property
    def not_after_s(self) -> float:
        """End of the current leaf, Unix seconds; raises as `client_context`."""
        return self._current().not_after_s

    def renew_if_due(self) -> float:
        """Renew when half of the leaf's life is over; returns the seconds until the next look.

        An issuer that is down or answers wrongly is asked again with growing pauses, and the leaf
        that is held stays in use until it ends.
        """
        with self._lock:
            now_s = self._clock()
            leaf = self._leaf
            if leaf is not None and leaf.not_before_s <= now_s < leaf.renew_at_s:
                return min(leaf.renew_at_s - now_s, RETRY_MAX_S)
            try:
                self._leaf = self._renew(now_s)
            except Error as error:
                self._last_error = str(error)
                _log.warning("%s: leaf not renewed: %s", self._identity.uri, error)
                pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, RETRY_MAX_S)
                return pause_s
            self._retry_s = RETRY_FIRST_S
            _log.info("%s: new leaf until %s", self._identity.uri, self._leaf.not_after_s)
            return min(max(self._leaf.renew_at_s - now_s, RETRY_FIRST_S), RETRY_MAX_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause_s = self.renew_if_due()
            except Exception:  # noqa: BLE001
                # The outermost loop of this thread: if it ended, the leaf would silently expire.
                _log.exception("%s: leaf not renewed", self._identity.uri)
                pause_s = RETRY_MAX_S
            self._stop.wait(pause_s)

    def _current(self) -> Leaf:
        leaf = self._leaf
        now_s = self._clock()
        if leaf is None or not leaf.valid_at(now_s):
            raise BorderDownError(
                f"{self._identity.uri}: no valid certificate at {to_rfc3339(now_s)} "
                f"({self._last_error}); start the region's issuer"
            )
        return leaf

    def _renew(self, now_s: float) -> Leaf:
        key = ec.generate_private_key(ec.SECP256R1())
        chain_pem = self._ask_issuer(create_request(key, identity=self._identity))
        chain = chain_from_pem(chain_pem, what="issuer's answer")
        if public_key_of(chain[0]) != P256Signer(key=key).public_key:
            raise TrustError(
                "issuer's answer: the certificate is for another key; check the issuer"
            )
        peer = self._judge(chain, now_s=now_s)
        server = server_context(anchors=self._anchors)
        client = client_context(hub=self._anchors[self._hub])
        for context in (server, client):
            load_leaf(context, chain_pem=chain_pem, key=key)
        not_before_s = chain[0].not_valid_before_utc.timestamp()
        return Leaf(
            server=server,
            client=client,
            not_before_s=not_before_s,
            renew_at_s=(not_before_s + peer.not_after_s) / 2,
            not_after_s=peer.not_after_s,
        )

    def _judge(self, chain: tuple[x509.Certificate, ...], *, now_s: float) -> Peer:
        """Hold the issuer's answer against what our peers will ask of it."""
        region = region_of(self._identity, anchors=self._anchors)
        root_der = self._anchors[region].root_der
        full = (*chain, from_der(root_der, what=f"root of region {region!r}"))
        for child, parent in itertools.pairwise(full):
            try:
                child.verify_directly_issued_by(parent)
            except (ValueError, TypeError, InvalidSignature) as error:
                raise TrustError(
                    f"issuer's answer: it does not chain to the root of {region!r} that the "
                    "agreement names; check the issuer's certificate"
                ) from error
        peer = judge_chain([to_der(c) for c in full], anchors=self._anchors, now_s=now_s)
        # The region is ours, since the root is; the role is whatever the issuer wrote.
        if peer.role != self._identity.role:
            raise TrustError(f"issuer's answer: expected {self._identity.uri}, got {peer.role}")
        return peer
