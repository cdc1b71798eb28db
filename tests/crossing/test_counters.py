"""The count of exported subjects: exact under concurrency, over turns of the year, after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.crossing.counters_world import (
    NEW_YORK,
    NOON_S,
    SHANGHAI,
    at,
    data_set,
    export,
    exported,
    ledger,
    named,
    people,
)

from ringfence.core.catalogue import Subjects
from ringfence.crossing.counters import CounterLedger, PlannedCounts
from ringfence.crossing.data_sets import DataSet, Overlap
from ringfence.crossing.exports import Export

LINE = 100


def american(name: str, count: int, **other: Any) -> Any:
    return data_set(name, count, jurisdiction="US", operator="Motors of America", **other)


# ── what adds up ──


def test_a_crossing_is_always_among_those_that_it_adds_up_to(tmp_path: Path) -> None:
    # given a ledger that has counted nothing, and reserved nothing either
    # when it is asked about a crossing, then that crossing counts
    assert people(ledger(tmp_path), export(data_set("a", 70))) == (70, 0)


def test_many_rounds_over_the_same_people_count_them_once(tmp_path: Path) -> None:
    # given ten rounds over one catalogue
    counted = ledger(tmp_path)
    for round_ in range(1, 11):
        exported(counted, export(data_set("a", 70), round_=round_))
    # when an eleventh is asked about, then they are the same people; other people add up
    assert people(counted, export(data_set("a", 70), round_=11)) == (70, 0)
    assert people(counted, export(data_set("b", 5), round_=11)) == (75, 0)


def test_a_proven_overlap_is_counted_once(tmp_path: Path) -> None:
    # given a catalogue that was exported, and one that grew out of it
    counted = ledger(tmp_path)
    exported(counted, export(data_set("jan", 70, sensitive=7)))
    grown = export(data_set("feb", 90, sensitive=8), round_=2)
    proof = Overlap(
        one=named("jan"),
        other=named("feb"),
        shared=Subjects(people=70, sensitive_people=7, devices=0),
        evidence=named("record"),
    )
    # when the law is told of the new one, then with the proof it is the new one's number
    found = counted.figures(grown, overlaps=[proof], now_s=NOON_S)
    assert (found.cn.people, found.cn.sensitive_people) == (90, 8)
    assert people(counted, grown) == (160, 0)


@pytest.mark.parametrize(
    ("other", "adds"),
    [
        ({"recipient": "Another hub"}, True),  # the same company, to anybody
        ({"model": "second"}, True),
        ({"company": "Parts"}, True),  # another company, and the rest alike
        ({"company": "Parts", "lineage": "branch"}, True),  # a branch is the same model
        ({"company": "Parts", "recipient": "Another hub"}, False),
        ({"company": "Parts", "model": "second"}, False),
        ({"company": "Parts", "purpose": "public_service"}, False),
        ({"company": "Parts", "group": "others"}, False),
    ],
)
def test_splitting_an_export_among_companies_takes_nothing_off(
    tmp_path: Path, other: dict[str, str], adds: bool
) -> None:
    # given an export of the same company, or of another
    company = other.pop("company", "Motors")
    counted = ledger(tmp_path)
    exported(counted, export(data_set("b", 50, operator=company), sender="cn-2", **other))
    # when the law is told of an export, then it adds up where the reading says so
    assert people(counted, export(data_set("a", 70)))[0] == (120 if adds else 70)


@pytest.mark.parametrize(
    ("operator", "recipient", "adds"),
    [
        ("Motors of America", "Hub", True),
        ("Motors of America", "Another hub", False),
        ("Trucks of America", "Hub", False),
    ],
)
def test_american_exports_add_up_between_the_same_two_persons(
    tmp_path: Path, operator: str, recipient: str, adds: bool
) -> None:
    # given an export of an American person to a foreign one, for another model
    before = data_set("b", 50, devices=4, jurisdiction="US", operator=operator)
    counted = ledger(tmp_path)
    exported(counted, export(before, sender="us-2", recipient=recipient, model="second"))
    # when the law is told of another, then only the same two persons' exports add up
    asked = export(american("a", 70, devices=1), sender="us")
    found = counted.figures(asked, overlaps=(), now_s=NOON_S)
    assert (found.us.people, found.us.devices) == ((120, 5) if adds else (70, 1))


def test_a_mixed_set_has_the_lowest_line_of_all_that_was_added_up(tmp_path: Path) -> None:
    # given identifiers, and after them locations, to the same recipient
    counted = ledger(tmp_path)
    plain = export(american("a", 70), sender="us")
    assert counted.figures(plain, overlaps=(), now_s=NOON_S).us_line == 100_000
    located = american("b", 0, devices=3, classes=("geographic", "personal"))
    exported(counted, export(located, sender="us"))
    # when the law is told of identifiers again, then they stand beside locations
    assert counted.figures(plain, overlaps=(), now_s=NOON_S).us_line == 1_000


def test_a_release_of_two_countries_counts_each_by_its_own_law(tmp_path: Path) -> None:
    # given a model that carries both
    counted = ledger(tmp_path)
    both = export(data_set("a", 70), american("b", 30), sender="hub", recipient="Else")
    exported(counted, both)
    # when each country's next export is asked about, then it finds its own
    assert people(counted, export(data_set("c", 1), recipient="Else")) == (71, 0)
    assert people(counted, export(american("d", 2), recipient="Else")) == (0, 32)


# ── windows ──


def test_the_chinese_count_turns_over_at_midnight_in_shanghai(tmp_path: Path) -> None:
    # given exports in the last second of a year and in the first instant of the next
    counted = ledger(tmp_path)
    new_year_s = at(SHANGHAI, 2027, 1, 1)
    exported(counted, export(data_set("a", 70)), now_s=new_year_s - 1)
    exported(counted, export(data_set("b", 5), round_=2), now_s=new_year_s)
    asked = export(data_set("c", 1), round_=3)
    # when the law is told in either year, then each year has its own
    assert people(counted, asked, now_s=new_year_s - 1) == (76, 0)
    assert people(counted, asked, now_s=new_year_s) == (6, 0)
    assert people(counted, asked, now_s=at(SHANGHAI, 2027, 12, 31)) == (6, 0)
    assert people(counted, asked, now_s=at(SHANGHAI, 2028, 1, 1)) == (1, 0)


@pytest.mark.parametrize(
    ("when", "last_counted"),
    [
        ((2026, 11, 20, 15), (2027, 11, 20, 23, 59)),
        ((2027, 3, 14, 3), (2028, 3, 14, 23, 59)),  # the clocks go forward
        ((2026, 11, 1, 1), (2027, 11, 1, 23, 59)),  # and back
        ((2028, 2, 29, 15), (2029, 2, 28, 23, 59)),
        ((2027, 2, 28, 15), (2028, 2, 29, 23, 59)),
    ],
)
def test_an_american_export_counts_for_twelve_months(
    tmp_path: Path, when: tuple[int, ...], last_counted: tuple[int, ...]
) -> None:
    # given an export
    counted = ledger(tmp_path)
    exported(counted, export(american("a", 70), sender="us"), now_s=at(NEW_YORK, *when))
    asked = export(american("b", 1), sender="us", round_=2)
    last_s = at(NEW_YORK, *last_counted)
    # when a year has passed, then it counts until its date is over
    assert people(counted, asked, now_s=last_s) == (0, 71)
    assert people(counted, asked, now_s=last_s + 60) == (0, 1)


def test_what_is_exported_again_counts_from_the_last_time(tmp_path: Path) -> None:
    # given people whose data went out in March and again in November
    counted = ledger(tmp_path)
    for round_, month in enumerate((3, 11), start=1):
        each = export(american("a", 70), sender="us", round_=round_)
        exported(counted, each, now_s=at(NEW_YORK, 2026, month, 20))
    # when the next October has come, then they still count
    asked = export(american("b", 1), sender="us", round_=3)
    assert people(counted, asked, now_s=at(NEW_YORK, 2027, 10, 1)) == (0, 71)


def test_what_was_reserved_last_year_counts_this_year(tmp_path: Path) -> None:
    # given a crossing that was reserved on New Year's Eve and has not left
    counted = ledger(tmp_path)
    waiting = export(data_set("a", 70))
    counted.reserve(waiting)
    # when another is judged in January, then both may leave in January
    asked = export(data_set("b", 50), sender="cn-2")
    assert people(counted, asked, now_s=at(SHANGHAI, 2027, 1, 1)) == (120, 0)


def test_a_crossing_that_goes_on_next_year_is_not_counted_there_yet(tmp_path: Path) -> None:
    # given a crossing that was settled in December
    counted = ledger(tmp_path)
    each = export(data_set("a", 70), american("b", 1))
    exported(counted, each, now_s=at(SHANGHAI, 2026, 12, 31))
    # when it goes on, then it is asked whether the windows of that moment have all of it
    assert counted.counts(each, now_s=at(SHANGHAI, 2026, 12, 31))
    assert not counted.counts(each, now_s=at(SHANGHAI, 2027, 1, 1))
    # and once it is settled again, they have
    exported(counted, each, now_s=at(SHANGHAI, 2027, 1, 1))
    assert counted.counts(each, now_s=at(SHANGHAI, 2027, 1, 1))


def test_a_clock_that_went_back_takes_nothing_off(tmp_path: Path) -> None:
    # given an export under a clock that was a month ahead
    counted = ledger(tmp_path)
    exported(counted, export(data_set("a", 70)), now_s=NOON_S + 30 * 86_400)
    exported(counted, export(data_set("a", 70), round_=2), now_s=NOON_S)
    # when the clock is right again, then the export counts
    assert people(counted, export(data_set("b", 1))) == (71, 0)


# ── reserve, settle, release ──


def test_a_refused_crossing_is_given_back_and_an_exported_one_is_not(tmp_path: Path) -> None:
    # given one crossing that is refused and one whose bytes may have left
    counted = ledger(tmp_path)
    refused, sent = export(data_set("a", 70)), export(data_set("b", 5), sender="cn-2")
    counted.reserve(refused)
    exported(counted, sent)
    # when both are released
    for each in (refused, sent):
        counted.release(each.id)
    # then what was settled stays counted
    assert people(counted, export(data_set("c", 1), round_=2)) == (6, 0)


def test_reserving_twice_reserves_once_and_ends_former_rounds(tmp_path: Path) -> None:
    # given a round that was never finished
    counted = ledger(tmp_path)
    for _ in range(2):
        counted.reserve(export(data_set("a", 70)))
    assert people(counted, export(data_set("c", 1), round_=2)) == (71, 0)
    # when the next round over another catalogue is reserved, then the former one's is given back
    counted.reserve(export(data_set("b", 5), round_=2))
    assert people(counted, export(data_set("c", 1), round_=2)) == (6, 0)
    # and the flows of others are not touched
    counted.reserve(export(data_set("d", 9), sender="cn-2", round_=1))
    counted.reserve(export(data_set("b", 5), round_=3))
    assert people(counted, export(data_set("c", 1), round_=3)) == (15, 0)


def test_a_process_gives_back_only_what_it_reserved_itself(tmp_path: Path) -> None:
    # given a gateway and a coordinator over one database, both of which died
    for process, name in (("gateway", "a"), ("coordinator", "b")):
        ledger(tmp_path, process).reserve(export(data_set(name, 50), sender=process))
    # when the gateway starts again
    gateway = ledger(tmp_path)
    # then it gives back its own crossing, and once only
    assert (gateway.release_all(), gateway.release_all()) == (1, 0)
    assert people(gateway, export(data_set("c", 1))) == (51, 0)


def test_nothing_is_written_for_what_carries_nobody(tmp_path: Path) -> None:
    # given a crossing of neither country's data
    counted = ledger(tmp_path)
    exported(counted, export())
    # when everything is read, then there is nothing
    assert counted.all(now_s=NOON_S) == []
    assert people(counted, export()) == (0, 0)


def test_a_plan_is_counted_whole_and_written_nowhere(tmp_path: Path) -> None:
    # given people already exported, and a plan of two crossings
    counted = ledger(tmp_path)
    exported(counted, export(data_set("a", 70)))
    plan = [export(data_set(name, 20), sender=name) for name in ("b", "c")]
    # when the plan's crossings are asked about, then each is told of both and of what was before
    planned = PlannedCounts(counted.all(now_s=NOON_S), plan)
    for each in plan:
        assert planned.figures(each, overlaps=(), now_s=NOON_S).cn.people == 110
    assert len(counted.all(now_s=NOON_S)) == 1


# ── concurrency ──


def test_a_crossing_counts_those_before_it_and_not_those_behind_it(tmp_path: Path) -> None:
    # given two crossings under way that fit a line one at a time
    counted = ledger(tmp_path)
    first, second = (export(data_set(name, 70), sender=name) for name in ("a", "b"))
    for each in (first, second, first):
        counted.reserve(each)
    # when each is asked about, then the first is told of itself, the second of both
    assert [people(counted, each)[0] for each in (first, second)] == [70, 140]
    # and one that reserves other data now stands behind the second
    grown = export(data_set("a", 70), data_set("c", 1), sender="a")
    counted.reserve(grown)
    assert [people(counted, each)[0] for each in (grown, second)] == [141, 70]
    # and so does one that was given back
    counted.release(second.id)
    counted.reserve(second)
    assert [people(counted, each)[0] for each in (grown, second)] == [71, 141]


@pytest.mark.parametrize(
    "grown",
    [
        data_set("a", 71),
        data_set("a", 70, devices=1),
        data_set("a", 70, classes=("biometric", "personal")),
        data_set("a", 70, operator="Motors, renamed"),
    ],
)
def test_data_that_grew_are_not_counted_yet(tmp_path: Path, grown: DataSet) -> None:
    # given an export that is counted, of data whose subjects are counted anew since
    counted = ledger(tmp_path)
    exported(counted, export(data_set("a", 70)))
    assert counted.counts(export(data_set("a", 70), round_=2), now_s=NOON_S)
    # when one more export of them is about to be judged, then it must take its turn: nobody else
    # counts what they have more
    assert not counted.counts(export(grown, round_=2), now_s=NOON_S)
    # and once it is exported, everybody does
    exported(counted, export(grown, round_=2))
    assert counted.counts(export(grown, round_=3), now_s=NOON_S)


def test_threads_that_pass_a_line_together_are_not_both_below_it(tmp_path: Path) -> None:
    # given eight crossings of 30 people each under a line of 100, all at once
    ledger(tmp_path)
    below: list[int] = []
    start = threading.Barrier(8)

    def cross(number: int) -> None:
        counted = ledger(tmp_path)
        each = export(data_set(f"set-{number}", 30), sender=f"cn-{number}")
        start.wait()
        if _permitted(counted, each):
            below.append(number)

    threads = [threading.Thread(target=cross, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # when all are done, then as many were let through as fit, and they are what is counted
    assert len(below) == 3
    assert people(ledger(tmp_path), export(data_set("none", 0))) == (90, 0)


def _permitted(counted: CounterLedger, each: Export) -> bool:
    """The law in small: below the line or not at all."""
    counted.reserve(each)
    if people(counted, each)[0] > LINE:
        counted.release(each.id)
        return False
    counted.settle(each, now_s=NOON_S)
    return True


CHILD = """
    import os, pathlib, sys
    from tests.crossing.counters_world import NOON_S, data_set, export, ledger, people
    path, name, until = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    counted = ledger(path, name)
    each = export(data_set(name, 30), sender=name)
    print("ready", flush=True)
    sys.stdin.readline()
    counted.reserve(each)
    if people(counted, each)[0] > 100:
        counted.release(each.id)
        print("refused", flush=True)
        sys.exit(0)
    if until == "reserved":
        print("reserved", flush=True)
        sys.stdin.readline()
    counted.settle(each, now_s=NOON_S)
    print("settled", flush=True)
    if until == "settled":
        sys.stdin.readline()
"""


def _child(path: Path, name: str, *, until: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path), name, until],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def _says(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_processes_that_pass_a_line_together_are_not_all_below_it(tmp_path: Path) -> None:
    # given five processes with 30 people each under a line of 100
    children = [_child(tmp_path, f"p{number}") for number in range(5)]
    try:
        assert [_says(child) for child in children] == ["ready"] * 5
        # when all cross at once
        for child in children:
            _go(child)
        said = [_says(child) for child in children]
        # then as many were let through as fit, and they are what is counted
        assert sorted(said) == ["refused"] * 2 + ["settled"] * 3
        assert people(ledger(tmp_path), export(data_set("none", 0))) == (90, 0)
    finally:
        for child in children:
            child.communicate(timeout=30)


@pytest.mark.parametrize(("until", "left"), [("reserved", 0), ("settled", 30)])
def test_a_kill_loses_no_export_and_keeps_no_reservation(
    tmp_path: Path, until: str, left: int
) -> None:
    # given a process that is killed between reserving and settling, or just behind it
    child = _child(tmp_path, "gateway", until=until)
    try:
        assert _says(child) == "ready"
        _go(child)
        assert _says(child) == until
        child.send_signal(signal.SIGKILL)
    finally:
        child.communicate(timeout=30)
    # when others look, then it counts until it starts again: its bytes might have been about to go
    none = export(data_set("none", 0))
    assert people(ledger(tmp_path, "coordinator"), none) == (30, 0)
    # and when it starts again, then what had left counts
    again = ledger(tmp_path)
    again.release_all()
    assert people(again, none) == (left, 0)
    # and a crossing that goes on counts once
    each = export(data_set("gateway", 30), sender="gateway")
    exported(again, each)
    assert people(again, none) == (30, 0)


# ── against a slow and obvious model ──


_DAYS = st.integers(0, 800)
_EVENTS = st.lists(
    st.tuples(
        _DAYS,
        st.sampled_from(["one", "two"]),
        st.sampled_from(["Hub", "Else"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["settle", "release", "hold"]),
    ),
    max_size=12,
)
_SIZES = {"a": 5, "b": 11, "c": 23}


@settings(max_examples=60)
@given(events=_EVENTS, asked=st.tuples(_DAYS, st.sampled_from(["one", "two"])))
@pytest.mark.parametrize("jurisdiction", ["CN", "US"])
def test_agrees_with_a_list_of_everything_that_ever_left(
    tmp_path_factory: pytest.TempPathFactory,
    jurisdiction: str,
    events: list[tuple[int, str, str, str, str]],
    asked: tuple[int, str],
) -> None:
    # given a history of exports, refusals and crossings under way, in the order of time
    counted = ledger(tmp_path_factory.mktemp("ledger"))
    start_s = at(SHANGHAI, 2026, 6, 1)
    left: list[tuple[float, Export]] = []
    for number, (day, company, recipient, name, how) in enumerate(sorted(events)):
        each = _random_export(jurisdiction, company, recipient, name, sender=f"r{number}")
        counted.reserve(each)
        if how == "settle":
            counted.settle(each, now_s=start_s + day * 86_400)
            left.append((start_s + day * 86_400, each))
        elif how == "release":
            counted.release(each.id)
        else:
            left.append((float("inf"), each))
    # when the law is told of another crossing on some day after all of them
    latest = max((day for day, *_ in events), default=0)
    now_s = start_s + (latest + asked[0]) * 86_400
    each = _random_export(jurisdiction, asked[1], "Hub", "a", sender="asked")
    found = people(counted, each, now_s=now_s)
    # then it is told what the whole list adds up to
    expected = _naive(jurisdiction, left, each, now_s)
    assert found == ((expected, 0) if jurisdiction == "CN" else (0, expected))


def _random_export(
    jurisdiction: str, company: str, recipient: str, name: str, *, sender: str
) -> Export:
    each = data_set(f"{company}/{name}", _SIZES[name], operator=company, jurisdiction=jurisdiction)
    return export(each, sender=sender, recipient=recipient)


def _naive(jurisdiction: str, left: list[tuple[float, Export]], asked: Export, now_s: float) -> int:
    """Every export again, one by one; each data set is so many people with names of their own."""
    (own,) = asked.data_sets
    names: set[tuple[str, int]] = {(own.digest, i) for i in range(own.subjects.people)}
    for at_s, each in left:
        (other,) = each.data_sets
        same = (other.operator == own.operator, each.scope.recipient == asked.scope.recipient)
        related = any(same) if jurisdiction == "CN" else all(same)
        if related and at_s >= _naive_start(jurisdiction, now_s):
            names |= {(other.digest, i) for i in range(other.subjects.people)}
    return len(names)


def _naive_start(jurisdiction: str, now_s: float) -> float:
    if jurisdiction == "CN":
        return at(SHANGHAI, datetime.fromtimestamp(now_s, SHANGHAI).year, 1, 1)
    today = datetime.fromtimestamp(now_s, NEW_YORK)
    day = 28 if (today.month, today.day) == (2, 29) else today.day
    return at(NEW_YORK, today.year - 1, today.month, day)
