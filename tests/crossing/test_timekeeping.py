"""The guard of a region's clock: clocks set back and forward, restarts, and what others signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ledger.ledger_world import (
    LOG_KEY,
    NOW_S,
    WITNESS_KEYS,
    WITNESSES,
    cosignature,
    open_log,
    secret,
)

from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import FormatError, Refused, StateError
from ringfence.core.ids import RegionId
from ringfence.core.wire import Refusal
from ringfence.crossing.cosigned import CLOCK_TOLERANCE_S
from ringfence.crossing.entries import Entry, EntryKind
from ringfence.crossing.kept_time import Clocks, accept, read_kept
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.ledger.checkpoints import open_checkpoint
from ringfence.ledger.log import Log

HOUR_S = 3600.0
BE, DE, US = WITNESSES


class Machine:
    """A machine with a disk: true time, a wall clock that is off, and a process that restarts."""

    def __init__(self, path: Path) -> None:
        self.path = path / "state" / "clock.json"
        self.true_s = float(NOW_S)
        self.off_s = 0.0
        self.started_s = self.true_s - HOUR_S
        self.boot = "first"
        self.hub_log = open_log(path / "hub")
        self._log_path = path / "log"
        self.log: Log
        self.keeper: Timekeeper
        self.start()

    def clocks(self) -> Clocks:
        return Clocks(
            wall=lambda: self.true_s + self.off_s,
            steady=lambda: self.true_s - self.started_s,
            boot=self.boot,
        )

    def start(self) -> None:
        self.log = open_log(self._log_path)
        self.keeper = Timekeeper(
            self.clocks(),
            path=self.path,
            log=self.log,
            region=RegionId("cn"),
            witnesses={each.key.name: RegionId(each.key.name[:2]) for each in WITNESSES},
        )

    def stop(self) -> None:
        self.log.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def reboot(self) -> None:
        self.stop()
        self.boot += " and another"
        self.started_s = self.true_s
        self.start()

    def record(self, kind: EntryKind = "intent") -> None:
        """Write an entry as the region does, with the time that its wall clock says."""
        refusal = Refusal(stage="law", reason="clock", detail="no", rules=())
        at = to_rfc3339(self.true_s + self.off_s)
        self.log.append(
            Entry(
                kind=kind,
                at=at,
                counterparty="hub",
                refusal=refusal if kind == "refusal" else None,
            ).to_bytes()
        )

    def entries(self) -> list[Entry]:
        return [Entry.from_bytes(opening.content) for opening in self.log.openings()]

    def grow(self) -> str:
        """The hub's log gets one more entry, and shows a checkpoint."""
        self.hub_log.append(b"one more")
        return self.hub_log.checkpoint()

    def show(self, note: str, signed_s: dict[str, float], *, asked_s: float | None = None) -> None:
        """The hub shows a checkpoint with cosignatures of these times, by region."""
        for witness in WITNESSES:
            if (name := witness.key.name[:2]) in signed_s:
                note += cosignature(note, witness, time_s=int(signed_s[name]))
        shown = open_checkpoint(note, log_key=LOG_KEY, witnesses=WITNESS_KEYS)
        self.keeper.hear_checkpoint(shown, asked_s=asked_s)

    def show_fresh(self, **behind_s: float) -> None:
        """A checkpoint that grew after the last look, cosigned now by clocks that are off so."""
        self.show(self.hub_log.checkpoint(), {}, asked_s=self.keeper.steady_s())
        self.show(
            self.grow(),
            {region: self.true_s + off_s for region, off_s in behind_s.items()},
            asked_s=self.keeper.steady_s(),
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()
    machine.hub_log.close()


def _refused(machine: Machine) -> str:
    with pytest.raises(Refused) as refused:
        machine.keeper.require()
    said = refused.value
    assert (said.stage, said.reason, said.rules) == ("law", "clock", ("PLAT-CLOCK",))
    assert "expected" in said.detail
    assert "set the clock right" in said.detail
    return said.detail


# ── what we remember ──


def test_a_clock_that_nobody_touches_is_believed(machine: Machine) -> None:
    # given a machine that runs for a year, is stopped for a month and started again
    machine.keeper.require()
    machine.true_s += 365 * 24 * HOUR_S
    machine.keeper.require()
    machine.true_s += 30 * 24 * HOUR_S
    machine.reboot()
    # when its clock is looked at, then it may be believed
    machine.keeper.require()


@pytest.mark.parametrize("step_s", [-301.0, 301.0, -HOUR_S, 30 * 24 * HOUR_S])
def test_a_step_during_a_run_is_noticed_at_once_and_forgiven_when_undone(
    machine: Machine, step_s: float
) -> None:
    # given a clock that was right
    machine.keeper.require()
    # when it is set, back or forward
    machine.off_s = step_s
    detail = _refused(machine)
    # then the refusal says so
    assert ("moved back" if step_s < 0 else "jumped forward") in detail
    # and as soon as it is right, the next attempt goes on
    machine.off_s = 0
    machine.keeper.require()
    kept = read_kept(machine.path)
    assert kept is not None
    assert kept.problem == ""


@pytest.mark.parametrize("off_s", [-CLOCK_TOLERANCE_S + 1, -1.0, 1.0, CLOCK_TOLERANCE_S - 1])
def test_a_clock_that_is_a_little_wrong_is_believed(machine: Machine, off_s: float) -> None:
    # given a clock that was right, and others who sign the true time
    machine.keeper.require()
    machine.show_fresh(be=0, de=0, us=0)
    # when it is set by less than the tolerance, then it is believed, also after a reboot
    machine.off_s = off_s
    machine.keeper.require()
    machine.reboot()
    machine.keeper.require()


def test_small_steps_do_not_add_up_unnoticed(machine: Machine) -> None:
    # given a clock that is set back again and again, by less than the tolerance, over restarts
    machine.keeper.require()
    machine.off_s = -200
    machine.keeper.require()
    machine.restart()
    machine.keeper.require()
    # when the steps together are more, then it is refused
    machine.off_s = -400
    _refused(machine)


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_step_while_the_process_was_down_is_noticed(machine: Machine, step_s: float) -> None:
    # given a region that has acted, and whose process ends
    machine.keeper.require()
    machine.true_s += 60
    # when the clock is set before it starts again, on the same boot
    machine.off_s = step_s
    machine.restart()
    # then it is refused until it is right
    _refused(machine)
    machine.off_s = 0
    machine.keeper.require()


def test_a_clock_set_back_over_a_reboot_is_noticed(machine: Machine) -> None:
    # given a region that acted a minute ago
    machine.true_s += HOUR_S
    machine.keeper.require()
    machine.true_s += 60
    # when the machine starts again with a clock that was set back
    machine.off_s = -HOUR_S
    machine.reboot()
    # then it is refused until the clock is right
    assert "moved back" in _refused(machine)
    machine.off_s = 0
    machine.keeper.require()


@pytest.mark.parametrize("lost", [False, True])
def test_what_stands_in_the_log_counts_after_a_reboot(machine: Machine, lost: bool) -> None:
    # given a region that acted after its file was written last, or whose file is gone
    machine.keeper.require()
    machine.true_s += 20 * 60
    machine.record("receipt")
    if lost:
        machine.path.unlink()
    # when the machine starts with a clock that was set to before that
    machine.off_s = -15 * 60
    machine.reboot()
    # then the log convicts it
    assert to_rfc3339(machine.true_s) in _refused(machine)


def test_a_refusal_under_a_wrong_clock_does_not_count_as_an_act(machine: Machine) -> None:
    # given a region that refused and recorded so while its clock was a year ahead
    machine.keeper.require()
    machine.off_s = 365 * 24 * HOUR_S
    _refused(machine)
    machine.record("refusal")
    # when the machine starts again with the right time
    machine.off_s = 0
    machine.reboot()
    # then nothing is held against it
    machine.keeper.require()


def test_an_entry_under_a_wrong_clock_is_forgiven_where_the_steady_clock_knows_better(
    machine: Machine,
) -> None:
    # given a receipt that came, and was recorded, while the clock was a year ahead
    machine.keeper.require()
    machine.off_s = 365 * 24 * HOUR_S
    machine.record("receipt")
    # when the process starts again, on the same boot and with the right time
    machine.off_s = 0
    machine.restart()
    # then the clock is believed
    machine.keeper.require()


def test_a_damaged_file_is_named_with_its_cure(machine: Machine) -> None:
    # given a file that somebody has cut short
    machine.keeper.require()
    machine.path.write_bytes(machine.path.read_bytes()[:20])
    machine.stop()
    # when the process starts, then it says which file and what to do
    with pytest.raises(StateError, match=r"clock\.json.*clock --accept"):
        machine.start()
    machine.stop()
    # and that helps
    accept(machine.path, machine.clocks(), entries=0)
    machine.start()
    machine.keeper.require()


def test_the_same_trouble_is_said_in_the_same_words(machine: Machine) -> None:
    # given a clock that is wrong, and a caller that asks every second
    machine.keeper.require()
    machine.off_s = -HOUR_S
    first = _refused(machine)
    # when time goes on, then it is one refusal, not thousands
    for _ in range(5):
        machine.true_s += 1
        assert _refused(machine) == first
    # but another error is another refusal
    machine.off_s = HOUR_S
    assert _refused(machine) != first


# ── what others signed ──


def test_a_cosignature_in_the_future_convicts_however_old_it_is(machine: Machine) -> None:
    # given a region whose clock was wrong from the start
    machine.off_s = -HOUR_S
    machine.keeper.require()
    # when the others' cosignatures of some minutes ago are seen
    machine.show(machine.grow(), {"be": machine.true_s - 600, "de": machine.true_s - 900})
    # then the clock is behind
    assert "behind" in _refused(machine)
    # and goes on once it is right, though what it remembered was wrong as well
    machine.off_s = 0
    machine.keeper.require()
    assert machine.entries()[-1].kind == "clock"


def test_an_old_cosignature_proves_nothing_against_a_clock_that_is_later(machine: Machine) -> None:
    # given a hub that shows what was cosigned a week ago
    machine.keeper.require()
    week_ago_s = machine.true_s - 7 * 24 * HOUR_S
    machine.show(machine.grow(), dict.fromkeys(("be", "de", "us"), week_ago_s))
    # when the clock is looked at, then it is believed
    machine.keeper.require()


def test_fresh_cosignatures_convict_a_clock_that_is_ahead(machine: Machine) -> None:
    # given a region whose clock was ahead from the start
    machine.off_s = HOUR_S
    machine.keeper.require()
    # when a tree that the hub did not have a moment ago comes cosigned
    machine.show_fresh(be=0, de=0)
    # then the clock is ahead
    assert "ahead" in _refused(machine)
    # and goes on once it is right
    machine.off_s = 0
    machine.keeper.require()


def test_the_bound_of_a_fresh_cosignature_is_the_look_before_it(machine: Machine) -> None:
    # given a hub that was asked two hours ago, and a tree that was cosigned soon after that
    machine.off_s = HOUR_S
    machine.show(machine.hub_log.checkpoint(), {}, asked_s=machine.keeper.steady_s())
    signed_s = machine.true_s + 60
    machine.true_s += 2 * HOUR_S
    # when it is shown only now
    machine.show(machine.grow(), dict.fromkeys(("be", "de", "us"), signed_s))
    # then an hour ahead is proven all the same: the clock said more when the hub was asked
    assert "ahead" in _refused(machine)


def test_one_wrong_clock_among_the_others_convicts_nobody(machine: Machine) -> None:
    # given a right clock, and a witness that is ten minutes ahead
    machine.keeper.require()
    # when all three have cosigned, then the two others count
    machine.show_fresh(be=600, de=0, us=0)
    machine.keeper.require()


def test_of_the_proofs_the_median_one_sets_the_number(machine: Machine) -> None:
    # given two regions that are ten minutes ahead of us, and a liar who says a century
    machine.keeper.require()
    machine.show_fresh(be=600, de=600, us=100 * 365 * 24 * HOUR_S)
    # when the clock is refused, then by ten minutes
    assert "600 s or more behind" in _refused(machine)


def test_a_cosignature_of_a_stranger_is_not_heard(machine: Machine) -> None:
    # given a checkpoint with our own line, which says nothing new to us
    own = secret("cn.example/witness", WITNESS_KEYS[0].algorithm)
    note = machine.grow()
    note += cosignature(note, own, time_s=int(machine.true_s + HOUR_S))
    shown = open_checkpoint(note, log_key=LOG_KEY, witnesses=(*WITNESS_KEYS, own.key))
    # when it is heard, then nothing follows
    machine.keeper.hear_checkpoint(shown)
    machine.keeper.require()


def test_a_step_after_others_were_heard_contradicts_them_too(machine: Machine) -> None:
    # given a clock that agrees with the others
    machine.keeper.require()
    machine.show_fresh(be=0, de=0, us=0)
    machine.true_s += HOUR_S
    machine.keeper.require()
    # when it is set back, then they convict it, and a person cannot talk it right
    machine.off_s = -2 * HOUR_S
    assert "behind" in _refused(machine)
    accept(machine.path, machine.clocks(), entries=machine.log.size)
    assert "behind" in _refused(machine)


@pytest.mark.parametrize("in_this_run", [True, False])
def test_a_receipt_is_fresh_when_its_statement_was_made_in_this_run(
    machine: Machine, in_this_run: bool
) -> None:
    # given a clock that is ahead, and statements made in this run or in another
    machine.off_s = HOUR_S
    machine.keeper.require()
    machine.keeper.made("sha256:statement")
    if not in_this_run:
        machine.restart()
    machine.true_s += 5
    received = to_rfc3339(machine.true_s)
    # when two regions have receipted them
    for region in ("be", "de"):
        machine.keeper.hear_receipt(
            region, statement="sha256:statement", received=received, index=3
        )
    # then that convicts the clock if they cannot be older than the statements
    assert ("ahead" in machine.keeper.problem()) == in_this_run


def test_a_receipt_at_no_time_is_malformed(machine: Machine) -> None:
    # given a receipt whose time is none, when it is heard, then it is refused as such
    with pytest.raises(FormatError, match="expected a time"):
        machine.keeper.hear_receipt("hub", statement="", received="now", index=0)


def test_the_owner_of_a_log_knows_from_when_on_a_tree_can_be_cosigned(machine: Machine) -> None:
    # given a hub whose clock is ahead, and a tree that it signs now
    machine.off_s = HOUR_S
    machine.log.append(b"one")
    before_s = machine.keeper.steady_s()
    note = machine.log.checkpoint()
    machine.keeper.published(machine.log.size, since_s=before_s)
    # when two of three witnesses cosign it with the true time
    for witness in (BE, DE):
        line = cosignature(note, witness, time_s=int(machine.true_s))
        machine.keeper.hear_cosignature(machine.log.add_cosignature(line, WITNESS_KEYS))
    # then the hub's clock is ahead
    assert "ahead" in _refused(machine)


# ── what gives way ──


def test_what_was_remembered_under_a_wrong_clock_gives_way_to_a_majority(machine: Machine) -> None:
    # given a region that acted while its clock was a year ahead, and a reboot that mended it
    machine.off_s = 365 * 24 * HOUR_S
    machine.keeper.require()
    machine.off_s = 0
    machine.reboot()
    assert "moved back" in _refused(machine)
    # when one of three has freshly signed the true time, then that is not enough
    machine.show_fresh(be=0)
    assert "moved back" in _refused(machine)
    # when two have, then it is, for good, and the log says so
    machine.show_fresh(be=0, de=0)
    machine.keeper.require()
    entry = machine.entries()[-1]
    assert entry.kind == "clock"
    assert any("more than half" in line for line in entry.measurements)
    machine.reboot()
    machine.keeper.require()


def test_old_cosignatures_do_not_overrule_what_a_region_remembers(machine: Machine) -> None:
    # given a clock that was set back a month, over a reboot, to a time when others cosigned
    machine.keeper.require()
    month_ago_s = machine.true_s - 30 * 24 * HOUR_S
    machine.off_s = month_ago_s - machine.true_s
    machine.reboot()
    # when the hub shows what they cosigned then
    machine.show(machine.grow(), dict.fromkeys(("be", "de", "us"), month_ago_s))
    # then it is still refused: a signature of unknown age does not say that a clock is not behind
    assert "moved back" in _refused(machine)


def test_a_person_can_say_that_the_clock_is_right_and_the_log_keeps_it(machine: Machine) -> None:
    # given a region alone whose clock was a year ahead, and was mended while it runs
    machine.off_s = 365 * 24 * HOUR_S
    machine.keeper.require()
    ahead_s = machine.true_s + machine.off_s
    machine.off_s = 0
    assert "clock --accept" in _refused(machine)
    # when a person says so
    accept(machine.path, machine.clocks(), entries=machine.log.size)
    # then the process goes on, and has written down what it let go of
    machine.keeper.require()
    entry = machine.entries()[-1]
    assert entry.kind == "clock"
    assert entry.measurements == (
        "because=a person said that the clock is right",
        f"acted={to_rfc3339(ahead_s)}",
    )
    # and from then on guards the clock as before
    machine.keeper.require()
    assert len([each for each in machine.entries() if each.kind == "clock"]) == 1
    machine.off_s = -HOUR_S
    _refused(machine)
