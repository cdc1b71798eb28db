"""Reads the papers between crossings: a revocation is recorded, and what ends soon is said."""

from __future__ import annotations

import logging

from ringfence.crossing.standing import DAY_S, ending, warning
from ringfence.gateway.gateway import Gateway

_log = logging.getLogger(__name__)


def remind(gateway: Gateway) -> None:
    """Say once a day which papers end within their warning time.

    Reading them writes a revocation that is new into the log, also while nothing is to be decided.
    Raises: ConfigError when a file does not hold.
    """
    law = gateway.region.law
    held, revoked, now_s = law.approvals(), law.registry().revoked, law.clock()
    day = int(now_s // DAY_S)
    if day in gateway.reminded:
        return
    gateway.reminded.add(day)
    for each in ending(law.agreement, (p for p in held if p.id not in revoked), now_s=now_s):
        _log.warning("paper %s", warning(each, now_s=now_s))
