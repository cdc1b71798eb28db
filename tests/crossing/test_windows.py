"""A year in China and twelve months in New York, to the second."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.crossing.windows import american_window_start, chinese_year_start

SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")


def _at(zone: ZoneInfo, *parts: int) -> float:
    return datetime(*parts, tzinfo=zone).timestamp()  # type: ignore[arg-type]


def test_the_chinese_year_turns_in_shanghai_and_not_in_greenwich() -> None:
    # given the first instant of 2027 in Shanghai, which is still 2026 elsewhere
    new_year_s = _at(SHANGHAI, 2027, 1, 1)
    assert datetime.fromtimestamp(new_year_s, ZoneInfo("UTC")).isoformat().startswith("2026-12-31")
    # when the year's start is asked for then, and a moment before, however short
    before = math.nextafter(new_year_s, 0)
    starts = [chinese_year_start(now_s) for now_s in (new_year_s, before, new_year_s - 1)]
    # then the first instant belongs to the new year, and none before it does
    assert starts == [new_year_s, *[_at(SHANGHAI, 2026, 1, 1)] * 2]


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ((2026, 11, 20, 9, 47), (2025, 11, 20)),
        ((2026, 11, 20, 0, 0), (2025, 11, 20)),
        ((2026, 11, 20, 23, 59, 59), (2025, 11, 20)),
        # The clocks go forward on 8 March 2026 and back on 1 November 2026.
        ((2026, 3, 8, 1, 59), (2025, 3, 8)),
        ((2026, 3, 8, 3, 0), (2025, 3, 8)),
        ((2026, 11, 1, 0, 30), (2025, 11, 1)),
        ((2027, 3, 8, 12, 0), (2026, 3, 8)),
        ((2027, 11, 1, 12, 0), (2026, 11, 1)),
        # 2028 is a leap year.
        ((2028, 2, 28, 12, 0), (2027, 2, 28)),
        ((2028, 2, 29, 12, 0), (2027, 2, 28)),
        ((2028, 3, 1, 12, 0), (2027, 3, 1)),
        ((2029, 2, 28, 12, 0), (2028, 2, 28)),
        ((2029, 3, 1, 12, 0), (2028, 3, 1)),
    ],
)
def test_twelve_months_begin_at_midnight_in_new_york(
    now: tuple[int, ...], start: tuple[int, ...]
) -> None:
    # given a time in New York, when the window's start is asked for, then it is that midnight
    assert american_window_start(_at(NEW_YORK, *now)) == _at(NEW_YORK, *start)


def test_the_hour_that_comes_twice_is_of_the_same_day() -> None:
    # given 01:30 on the day on which the clocks go back, the first time and the second
    twice = [
        datetime(2026, 11, 1, 1, 30, fold=fold, tzinfo=NEW_YORK).timestamp() for fold in (0, 1)
    ]
    assert twice[1] - twice[0] == 3600
    # when the windows are asked for, then they are one
    assert len({american_window_start(now_s) for now_s in twice}) == 1


@given(st.integers(min_value=0, max_value=4_102_444_800))
def test_windows_move_forward_only_and_leave_no_twelve_months_out(now_s: int) -> None:
    # given any second until 2100, when the windows are asked for then and a day later
    for start, zone in ((chinese_year_start, SHANGHAI), (american_window_start, NEW_YORK)):
        today, tomorrow = start(now_s), start(now_s + 86_400)
        # then they began before, at midnight, and never go back
        assert today <= now_s
        assert datetime.fromtimestamp(today, zone).time().isoformat() == "00:00:00"
        assert tomorrow >= today
    day = datetime.fromtimestamp(now_s, NEW_YORK).date()
    began = datetime.fromtimestamp(american_window_start(now_s), NEW_YORK).date()
    assert timedelta(365) <= day - began <= timedelta(366)
    assert _naive_year_before(day) == began


def _naive_year_before(day: date) -> date:
    """The last date of the year before that is not later in it."""
    dates = [day - timedelta(days) for days in range(1, 368)]
    return next(
        d for d in dates if d.year == day.year - 1 and (d.month, d.day) <= (day.month, day.day)
    )
