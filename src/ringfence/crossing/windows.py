"""The spans of time over which exports are counted, by the calendar of the law that asks.

A window begins at its first instant, that instant included (reference, section 8, "time zones"),
and goes on to now; what bears a later time than now is counted as well.
"""

from __future__ import annotations

import functools
import math
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ringfence.core.errors import ConfigError

_SHANGHAI = "Asia/Shanghai"
_NEW_YORK = "America/New_York"


def chinese_year_start(now_s: float) -> float:
    """00:00 on 1 January of the current year in Asia/Shanghai, in seconds since the epoch.

    Source: CAC Order 16, Arts 5, 7, 8 (CN-FLOW-5, -7, -8).
    """
    return _midnight(date(_today(now_s, _SHANGHAI).year, 1, 1), _SHANGHAI)


def american_window_start(now_s: float) -> float:
    """00:00 in America/New_York on the same calendar date a year ago, in seconds since the epoch.

    The whole of that date counts, so that no twelve months are left out at any hour of the day; a
    year before 29 February it is 28 February.
    Source: 28 CFR 202.205 (US-DOJ-202.205).
    """
    today = _today(now_s, _NEW_YORK)
    leap_day = (today.month, today.day) == (2, 29)
    start = today.replace(year=today.year - 1, day=28 if leap_day else today.day)
    return _midnight(start, _NEW_YORK)


def same_day(one_s: float, other_s: float) -> bool:
    """Whether two times are of one day by either calendar, so that no window parts them."""
    return all(_today(one_s, zone) == _today(other_s, zone) for zone in (_SHANGHAI, _NEW_YORK))


def _today(now_s: float, zone: str) -> date:
    # Down to the second: a rounded microsecond would let a day begin before its first instant.
    return datetime.fromtimestamp(math.floor(now_s), _zone(zone)).date()


def _midnight(day: date, zone: str) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=_zone(zone)).timestamp()


@functools.cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ConfigError(
            f"this machine knows no time zone {name}; install its time zone data (tzdata): exports "
            "are counted by that calendar"
        ) from error
