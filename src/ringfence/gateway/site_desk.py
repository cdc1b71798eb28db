"""Lends the region's one site to the lineages that want it, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ringfence.core.agreement import Agreement
from ringfence.core.errors import FormatError, Refused
from ringfence.core.ids import Digest, RegionId
from ringfence.core.site_wire import Welcome
from ringfence.core.tensors import Layout
from ringfence.gateway.gateway import Site
from ringfence.gateway.outbound import SiteLeftError

_LOOK_S = 0.5
"""How often a waiting lineage looks whether the gateway is to stop."""

_FAREWELL_S = 3.0
"""A site whose gateway restarted dials again within two seconds."""


class ArrivedSite(Site, Protocol):
    """A site that has introduced itself and waits for a word."""

    def welcome(self, message: Welcome, update_layout: Layout) -> None: ...

    def done(self) -> bool: ...

    def close(self) -> None: ...


class SiteDesk:
    """Takes in one site at a time and lends it out; a site that left makes room for the next."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        region: RegionId,
        catalogue: Digest,
        accept: Callable[[float], ArrivedSite | None],
        stop: threading.Event,
    ) -> None:
        self._agreement = agreement
        self._welcome = Welcome(region=region, agreement=agreement.digest, catalogue=catalogue)
        self._accept = accept
        self._stop = stop
        self._lock = threading.Lock()
        self._site: ArrivedSite | None = None

    @contextmanager
    def borrow(self) -> Iterator[Site]:
        """Lend the site; blocks until one is here and nobody else has it.

        Raises: SiteLeftError when the gateway stops first, or the site went away or broke the
        protocol while it was lent: that is the site's doing, never the hub's.
        """
        with self._lock:
            site = self._site or self._next()
            self._site = site
            try:
                yield site
            except (SiteLeftError, FormatError) as error:
                site.close()
                self._site = None
                raise SiteLeftError(str(error)) from error

    def dismiss(self) -> None:
        """Tell the site that the run is complete: the one here, or the one that is dialling again.

        Without that word it would wait for a gateway that does not come back.
        """
        with self._lock:
            site, self._site = self._site, None
            if site is None or not site.done():
                site = self._accept(_FAREWELL_S)
                if site is not None:
                    site.welcome(self._welcome, self._agreement.update_layout)
                    site.done()

    def hang_up(self) -> None:
        """Let go of the site, even in the middle of its training: the gateway stops.

        From any thread; the site dials again and waits for the next gateway.
        """
        site = self._site
        if site is not None:
            site.close()

    def _next(self) -> ArrivedSite:
        while not self._stop.is_set():
            site = self._accept(_LOOK_S)
            if site is None:
                continue
            gated = [line.id for line in self._agreement.terms.lineages if line.gate is not None]
            if gated and not site.hello.evaluates:
                refusal = Refused(
                    stage="connect",
                    reason="site-cannot-evaluate",
                    detail=f"lineages {gated} have a gate; give ringfence.connect an evaluate=",
                )
                site.reject(refusal)
                site.close()
                continue
            site.welcome(self._welcome, self._agreement.update_layout)
            return site
        raise SiteLeftError("the gateway stops; no site is waited for any more")
