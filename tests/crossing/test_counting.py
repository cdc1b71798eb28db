"""What the law is told of a region's exports: from its ledger, its catalogue and its registry."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.crossing.counters_world import NEW_YORK, NOON_S, SHANGHAI, at, named
from tests.gateway.lying import Lying
from tests.places.forging import update, write_payload
from tests.places.founding import EXAMPLES
from tests.places.world import WORLD, Place, World, rows

from ringfence.cli.checking import check_homes
from ringfence.core.artifacts import Declaration, Input
from ringfence.core.catalogue import Subjects
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import BorderDownError, ConfigError, Refused
from ringfence.crossing.exports import Catalogued, export_of
from ringfence.crossing.law import judge, question
from ringfence.crossing.registry import read_registry
from ringfence.policy.approvals import OperatorId
from ringfence.policy.facts import Counters
from ringfence.policy.words import Action

ZERO = "cn_people = 0\ncn_sensitive_people = 0\nus_people = 0\nus_devices = 0\n"


class Died(BaseException):
    """The process is killed: nothing in it catches this."""


@pytest.fixture
def declared(world: World, tmp_path: Path) -> Declaration:
    """China's update, as it should be declared."""
    return update(world, "cn", write_payload(world, tmp_path / "payload"))


def _told(world: World, name: str, declared: Declaration) -> Counters | None:
    law = world.hub.region.law if name == "hub" else world.place(name).region.law
    return question(law, declared, action=Action.EXPORT).counters


def _reserved(place: Place) -> list[str]:
    return [row["crossing"] for row in rows(place.home, "counted_reserved")]


def _exported(world: World, name: str) -> list[tuple[str, int]]:
    return [
        (row["jurisdiction"], row["people"]) for row in rows(world.homes[name], "counted_exported")
    ]


def _register(world: World, name: str, text: str) -> None:
    facts = world.homes[name].facts
    facts.write_text(facts.read_text() + text)


def _rewrite(world: World, name: str, old: str, new: str) -> None:
    facts = world.homes[name].facts
    assert old in facts.read_text()
    facts.write_text(facts.read_text().replace(old, new))


# ── the way of an update ──


def test_an_update_counts_at_both_ends_before_its_bytes_leave(world: World) -> None:
    # given a hub that looks at the region's counters at the moment of the offer
    cn = world.place("cn")
    seen: list[tuple[list[str], list[tuple[str, int]]]] = []

    def offer(envelope: bytes) -> Any:
        seen.append((_reserved(cn), _exported(world, "cn")))
        return cn.line.offer(envelope)

    # when an update crosses
    cn.turn(border=Lying(cn.line, offer=offer))
    # then its people were counted there, and are counted where it arrived
    assert seen == [([], [("CN", EXAMPLES)])]
    assert _exported(world, "hub") == [("CN", EXAMPLES)]


def test_the_people_are_reserved_while_the_site_trains(world: World) -> None:
    # given a gateway that looks at its counters while it encodes what the site handed over
    cn = world.place("cn")
    drawn = cn.gateway.random_bytes
    seen: list[list[str]] = []

    def look(size: int) -> bytes:
        seen.append(_reserved(cn))
        return drawn(size)

    cn.gateway = dataclasses.replace(cn.gateway, random_bytes=look)
    # when an update crosses
    cn.turn()
    # then the people were reserved meanwhile, and are not any more
    assert seen == [["update/world/1/cn/hub"]]
    assert _reserved(cn) == []


def test_a_refusal_at_preflight_gives_the_people_back(world: World) -> None:
    # given a region whose papers are gone
    cn = world.place("cn")
    for paper in cn.home.approvals.glob("*.dsse.json"):
        paper.unlink()
    # when a round opens
    with pytest.raises(Refused):
        cn.turn()
    # then nobody is reserved and nobody exported
    assert _reserved(cn) == []
    assert _exported(world, "cn") == []


def test_an_update_that_is_refused_after_training_gives_the_people_back(world: World) -> None:
    # given a site that counts more examples than there are
    cn = world.place("cn")
    cn.script.examples = EXAMPLES + 1
    # when it hands its update over
    with pytest.raises(Refused):
        cn.turn()
    # then nobody is reserved and nobody exported
    assert _reserved(cn) == []
    assert _exported(world, "cn") == []


def test_a_process_that_dies_between_reserving_and_settling_counts_nobody_twice(
    world: World,
) -> None:
    # given a process that dies after its update was encoded, before the law has said yes to it
    cn = world.place("cn")
    true_law = cn.region.law

    def approvals() -> Any:
        if cn.gateway.journal.outbound(WORLD, 1) is not None:
            raise Died
        return true_law.approvals()

    dying = dataclasses.replace(true_law, approvals=approvals)
    cn.gateway = dataclasses.replace(cn.gateway, region=dataclasses.replace(cn.region, law=dying))
    with pytest.raises(Died):
        cn.turn()
    assert _reserved(cn) == ["update/world/1/cn/hub"]
    # when it starts again, then it holds nothing, and what goes on is counted
    cn = world.restart_place("cn")
    assert _reserved(cn) == []
    cn.turn()
    assert (_reserved(cn), _exported(world, "cn")) == ([], [("CN", EXAMPLES)])


def test_an_update_that_goes_on_next_year_counts_in_both(world: World) -> None:
    # given a statement that was recorded a minute before midnight in Shanghai
    cn = world.place("cn")
    new_year_s = at(SHANGHAI, 2027, 1, 1)
    world.clock.now_s = new_year_s - 60
    _screened(world, world.clock.now_s)

    def cut(*_: Any, **__: Any) -> Any:
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        cn.turn(border=Lying(cn.line, upload=cut))
    (before,) = rows(cn.home, "counted_exported")
    # when its bytes cross behind midnight
    world.clock.now_s = new_year_s + 60
    cn.turn()
    # then the new year has them
    (after,) = rows(cn.home, "counted_exported")
    assert (before["last_s"], after["last_s"]) == (new_year_s - 60, new_year_s + 60)
    assert _reserved(cn) == []


def _screened(world: World, now_s: float) -> None:
    """Screenings and tests of today, in every region."""
    for name in ("hub", "cn"):
        text = world.homes[name].facts.read_text().splitlines()
        today = [
            f'{line.split("=")[0]}= "{to_rfc3339(now_s - 60)}"'
            if line.startswith(("at =", "tested_at ="))
            else line
            for line in text
        ]
        world.homes[name].facts.write_text("\n".join(today) + "\n")


# ── what is known ──


def test_a_catalogue_that_counts_nobody_refuses_what_needs_the_number(
    world: World, declared: Declaration
) -> None:
    # given a region whose catalogue does not say how many people there are
    law = world.place("cn").region.law
    assert law.catalogue is not None
    uncounted = Catalogued(
        catalogue=replace(law.catalogue.catalogue, subjects=None), digest=law.catalogue.digest
    )
    law = dataclasses.replace(law, catalogue=uncounted)
    # when the law is asked, then the number is unknown, and no export is permitted
    assert question(law, declared, action=Action.EXPORT).counters is None
    with pytest.raises(Refused) as caught:
        judge(law, declared, action=Action.EXPORT)
    assert "counters" in caught.value.detail


def test_a_catalogue_that_the_recipient_has_not_registered_is_not_counted(
    world: World, declared: Declaration
) -> None:
    # given a hub that knows one of China's catalogues, and a statement over another
    assert _told(world, "hub", declared) is not None
    other = replace(declared, inputs=(Input(role="catalogue", digest=named("other")),))
    # when the hub's law is asked, then it does not know
    assert _told(world, "hub", other) is None
    # and once the hub has registered it, it adds up
    _register(
        world,
        "hub",
        f'\n[[data_sets]]\nregion = "cn"\ncatalogue = "{named("other")}"\n'
        "people = 5\nsensitive_people = 2\ndevices = 1\n",
    )
    told = _told(world, "hub", other)
    assert told is not None
    assert (told.cn_people, told.cn_sensitive_people) == (EXAMPLES + 5, 2)


def test_a_proven_overlap_in_the_registry_counts_once(world: World, declared: Declaration) -> None:
    # given a second catalogue of China's, half of which is the first one's people
    law = world.place("cn").region.law
    assert law.catalogue is not None
    digests = f'["{law.catalogue.digest}", "{named("other")}"]'
    shared = EXAMPLES // 2
    _register(
        world,
        "cn",
        f'\n[[data_sets]]\nregion = "cn"\ncatalogue = "{named("other")}"\n'
        f"people = {EXAMPLES}\nsensitive_people = 0\ndevices = 0\n",
    )
    told = _told(world, "cn", declared)
    # when the overlap is registered with its evidence
    _register(
        world,
        "cn",
        f"\n[[overlaps]]\ncatalogues = {digests}\npeople = {shared}\n"
        f'sensitive_people = 0\ndevices = 0\nevidence = "{named("record")}"\n',
    )
    again = _told(world, "cn", declared)
    # then those people count once
    assert told is not None
    assert again is not None
    assert (told.cn_people, again.cn_people) == (2 * EXAMPLES, 2 * EXAMPLES - shared)


@pytest.mark.parametrize(("people", "important"), [(100_000, False), (100_001, True)])
def test_more_than_100000_people_need_an_assessment_from_the_first_crossing_on(
    world: World, declared: Declaration, people: int, important: bool
) -> None:
    # given a catalogue at the line or one above it, and no assessment
    cn = world.place("cn")
    for paper in cn.home.approvals.glob("cac*"):
        paper.unlink()
    law = cn.region.law
    assert law.catalogue is not None
    subjects = Subjects(people=people, sensitive_people=0, devices=0)
    counted = Catalogued(
        catalogue=replace(law.catalogue.catalogue, subjects=subjects), digest=law.catalogue.digest
    )
    # when the law is asked about a first export
    asked = question(dataclasses.replace(law, catalogue=counted), declared, action=Action.EXPORT)
    verdict = law.judge.judge(asked)
    # then the reading of CN-FLOW-8 decides by the number of this very crossing
    readings = [note for note in verdict.rules if note.id == "CN-FLOW-7" and note.confidence == "L"]
    assert bool(readings) == important


def test_metrics_and_what_stays_at_home_count_nobody(world: World, declared: Declaration) -> None:
    # given a table of metrics, and an update that goes nowhere
    agreement, registry = world.agreement, read_registry(world.homes["cn"].facts)
    law = world.place("cn").region.law
    metrics = replace(declared, kind="metrics")
    home = replace(declared, recipient="cn")
    # when they are asked about, then they take nobody's data out of China
    for each in (metrics, home):
        assert not export_of(agreement, registry, law.catalogue, each, ("cn",)).data_sets
    assert export_of(agreement, registry, law.catalogue, declared, ("cn",)).data_sets


def test_a_release_carries_every_contributors_people(world: World, declared: Declaration) -> None:
    # given a model of all three, on its way from the European hub to America and to China
    both = replace(declared, jurisdictions=("CN", "EU", "US"), sender="hub", inputs=())
    # when the hub's law is asked, then either country's people count where they leave it
    out, back = (
        _told(world, "hub", replace(both, recipient=name, kind="release")) for name in ("us", "cn")
    )
    assert out is not None
    assert back is not None
    assert (out.cn_people, out.us_people) == (EXAMPLES, 0)
    assert (back.cn_people, back.us_people) == (0, EXAMPLES)


# ── the opening balance ──


def test_the_opening_balance_is_added(world: World, declared: Declaration) -> None:
    # given people exported before this program counted
    _rewrite(world, "cn", "cn_people = 0", "cn_people = 1000")
    # when the law is told, then they add up
    told = _told(world, "cn", declared)
    assert told is not None
    assert told.cn_people == 1000 + EXAMPLES


def test_nobody_having_said_what_was_exported_before_is_not_nought(
    world: World, declared: Declaration
) -> None:
    # given facts without an opening balance
    facts = world.homes["cn"].facts
    head, _, tail = facts.read_text().partition("[counters]")
    facts.write_text(head + tail.partition("us_devices = 0\n")[2])
    # when the law is asked, then the number is unknown
    assert _told(world, "cn", declared) is None


@pytest.mark.parametrize(
    ("now_s", "chinese", "american"),
    [
        (at(SHANGHAI, 2026, 12, 31, 23, 59), 7, 5),
        (at(SHANGHAI, 2027, 1, 1), 0, 5),
        (at(NEW_YORK, 2027, 6, 29, 12), 0, 5),
        (at(NEW_YORK, 2027, 7, 2), 0, 0),
    ],
)
def test_an_opening_balance_with_a_date_lapses_with_its_window(
    tmp_path: Path, now_s: float, chinese: int, american: int
) -> None:
    # given a balance until the end of June 2026
    path = tmp_path / "facts.toml"
    path.write_text(
        "[counters]\ncn_people = 7\ncn_sensitive_people = 0\nus_people = 5\nus_devices = 0\n"
        'until = "2026-06-30T12:00:00Z"\n'
    )
    # when it is read at some time
    opening = read_registry(path).opening(now_s)
    # then it counts while its window is open; of its categories nobody has said better
    assert opening is not None
    assert (opening.cn_people, opening.us_people) == (chinese, american)
    assert opening.us_line == (1_000 if american else 100_000)


def test_an_opening_balance_without_a_date_stands_for_good(tmp_path: Path) -> None:
    path = tmp_path / "facts.toml"
    path.write_text("[counters]\n" + ZERO.replace("cn_people = 0", "cn_people = 7"))
    opening = read_registry(path).opening(NOON_S + 1e9)
    assert opening is not None
    assert (opening.cn_people, opening.us_line) == (7, 100_000)


@pytest.mark.parametrize(
    "text",
    [
        '[counters]\nuntil = "soon"\n' + ZERO,
        "[counters]\nus_line = -1\nus_people = 1\n" + ZERO.replace("us_people = 0\n", ""),
        (
            f'[[data_sets]]\nregion = "CN"\ncatalogue = "{named("a")}"\n'
            "people = 1\nsensitive_people = 0\ndevices = 0"
        ),
        (
            '[[data_sets]]\nregion = "cn"\ncatalogue = "a"\n'
            "people = 1\nsensitive_people = 0\ndevices = 0"
        ),
        (
            f'[[data_sets]]\nregion = "cn"\ncatalogue = "{named("a")}"\n'
            "people = 1\nsensitive_people = 2\ndevices = 0"
        ),
        f'[[data_sets]]\nregion = "cn"\ncatalogue = "{named("a")}"\npeople = 1',
        (
            f'[[overlaps]]\ncatalogues = ["{named("a")}", "{named("a")}"]\n'
            f'people = 1\nsensitive_people = 0\ndevices = 0\nevidence = "{named("b")}"'
        ),
        (
            f'[[overlaps]]\ncatalogues = ["{named("a")}", "{named("b")}"]\n'
            "people = 1\nsensitive_people = 0\ndevices = 0"
        ),
    ],
)
def test_malformed_counts_are_our_own_fault(tmp_path: Path, text: str) -> None:
    # given facts that cannot be read
    path = tmp_path / "facts.toml"
    path.write_text(text)
    # when they are, then a person is told which file to mend
    with pytest.raises(ConfigError, match=r"facts\.toml"):
        read_registry(path)


# ── the plan ──


def test_a_check_counts_the_ledger_and_the_plan_and_writes_nothing(world: World) -> None:
    # given homes whose region has already exported
    world.place("cn").turn()
    home, template = world.homes["cn"], world.homes.template.homes["cn"]
    shutil.copytree(template.packs, home.packs)
    before = world.remembered("cn")
    # when the plan is checked
    checked = check_homes([home])
    # then it is judged, and nothing is reserved by it
    assert checked
    assert all(row.permitted for row in checked if row.action == "export")
    assert world.remembered("cn") == before


# ── several companies ──


def test_the_hub_counts_a_company_that_no_gateway_of_the_others_sees(
    world: World, declared: Declaration
) -> None:
    # given people of another company, which that company sent to the hub before
    other = replace(declared, kind="update", round=1)
    law = world.hub.region.law
    assert law.ledger is not None
    first = export_of(law.agreement, law.registry(), None, other, ("cn",))
    parts = dataclasses.replace(
        first.data_sets[0], digest=named("parts"), operator=OperatorId("Parts")
    )
    theirs = dataclasses.replace(first, data_sets=(parts,))
    law.ledger.settle(theirs, now_s=world.clock.now_s)
    # when China's update arrives
    told = _told(world, "hub", declared)
    # then the hub's law is told of both, and the region's own of its own
    own = _told(world, "cn", declared)
    assert told is not None
    assert own is not None
    assert (told.cn_people, own.cn_people) == (2 * EXAMPLES, EXAMPLES)
