"""The chain of owners: who is treated as listed or as Chinese, checked against the plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import chain, combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.core.errors import FormatError
from ringfence.core.ids import Jurisdiction
from ringfence.policy.facts import Screening
from ringfence.policy.ownership import (
    ADVERSARIES,
    HALF,
    WHOLE,
    Kind,
    Owners,
    Screened,
    Share,
    Tally,
    ownership_findings,
    register,
    screening,
    ultimate_parent,
)

NOW, HOUR_S = 1_800_000_000.0, 3600.0
EU, US, CN, RU = (Jurisdiction(code) for code in ("EU", "US", "CN", "RU"))


def company(
    name: str,
    *owners: tuple[str, float | str],
    seat: str = "EU",
    listed: bool = False,
    dispersed: float | str = 0,
    at: float = NOW - HOUR_S,
    kind: Kind = Kind.COMPANY,
    controlled_by: str = "",
) -> Screened:
    return Screened(
        name=name,
        kind=kind,
        seat=Jurisdiction(seat),
        at=at,
        us_listed=listed,
        cn_listed=False,
        owners=tuple(Share(owner=owner, percent=Decimal(str(held))) for owner, held in owners),
        dispersed=Decimal(str(dispersed)),
        controlled_by=controlled_by,
    )


def person(name: str, *, seat: str = "EU", listed: bool = False) -> Screened:
    return company(name, seat=seat, listed=listed, kind=Kind.PERSON)


ANNA, LI = person("Anna"), person("Li", seat="CN")
LISTED = company("Listed", dispersed=100, listed=True)
CLEAN = company("Clean", dispersed=100)


def found(*rows: Screened, of: str = "maker", now_s: float = NOW) -> Screening:
    known = screening(register(rows), of, now_s=now_s)
    assert known is not None
    return known


def shares(*rows: Screened, of: str = "maker") -> tuple[int, int]:
    """Per cent in listed hands, and in those of persons of China or Russia."""
    known = found(*rows, of=of)
    return known.listed_owners_percent, known.adversary_owners_percent


# ---- one link ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "percent"),
    [("49.99", 49), ("49.999999", 49), ("50", 50), ("50.01", 50), ("24.99", 24), ("25", 25)],
)
def test_a_share_is_exact_at_the_lines(held: str, percent: int) -> None:
    # given one listed owner, and one who is not
    rest = WHOLE - Decimal(held)
    maker = company("maker", ("Listed", held), ("Clean", str(rest)))
    # then its share is rounded down, so that a line is reached exactly where the share reaches it
    assert shares(maker, LISTED, CLEAN) == (percent, 0)


def test_shares_add_up_without_the_errors_of_floating_point() -> None:
    # given ten listed owners of 0.1 per cent each beside 49 per cent: as floats 49.99999999999999
    owners = [(f"owner {n}", "0.1") for n in range(10)]
    rows = [company(name, dispersed=100, listed=True) for name, _ in owners]
    maker = company("maker", ("Listed", "49"), *owners, dispersed="50")
    # then they are 50
    assert shares(maker, LISTED, *rows) == (50, 0)


@pytest.mark.parametrize("seat", sorted(ADVERSARIES))
@pytest.mark.parametrize("kind", [Kind.COMPANY, Kind.PERSON, Kind.STATE])
def test_companies_persons_and_states_of_china_and_russia_are_theirs(seat: str, kind: Kind) -> None:
    # given an owner there, whoever stands behind it
    dispersed = 100 if kind is Kind.COMPANY else 0
    owner = company("owner", seat=seat, kind=kind, dispersed=dispersed)
    # then its share counts
    assert shares(company("maker", ("owner", 30), dispersed=70), owner) == (0, 30)


def test_a_subsidiary_in_china_is_a_person_of_china_whoever_owns_it() -> None:
    # given an American company's subsidiary that is incorporated in China, and what that owns
    subsidiary = company("subsidiary", ("Clean", 100), seat="CN")
    maker = company("maker", ("subsidiary", 100))
    # then both are theirs, and neither is listed
    assert shares(subsidiary, CLEAN, of="subsidiary") == (0, 100)
    assert shares(maker, subsidiary, CLEAN) == (0, 100)


def test_a_listing_of_the_company_itself_is_no_share_of_an_owner() -> None:
    known = found(LISTED, of="Listed")
    assert (known.us_listed, known.listed_owners_percent) == (True, 0)


def test_who_was_never_screened_has_no_screening() -> None:
    assert screening(register([CLEAN]), "maker", now_s=NOW) is None


# ---- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maker", "percent"),
    [
        (company("maker"), 100),
        (company("maker", ("Clean", "50.01")), 49),
        (company("maker", ("Clean", "50")), 50),
        (company("maker", ("Clean", "60"), ("nobody knows", "40")), 40),
        (company("maker", ("Clean", "60"), ("nobody knows", "30")), 40),
        (company("maker", ("Listed", "30"), ("nobody knows", "10"), ("Clean", "50")), 50),
        (company("maker", ("Clean", "99.99")), 0),
    ],
)
def test_what_nobody_accounts_for_counts_as_listed_and_as_chinese(
    maker: Screened, percent: int
) -> None:
    # when
    listed, adversary = shares(maker, CLEAN, LISTED)
    # then
    assert listed == percent
    assert adversary == percent - 30 * any(share.owner == "Listed" for share in maker.owners)


def test_a_company_without_an_end_belongs_to_nobody_known() -> None:
    # given two companies that own all of each other, and one that they own
    maker = company("maker", ("left", 100))
    left, right = company("left", ("right", 100)), company("right", ("left", 100))
    # then nothing is known of whose they are
    assert shares(maker, left, right) == (100, 100)


# ---- chains --------------------------------------------------------------------------------------


def test_a_company_half_owned_by_listed_parties_counts_whole_in_the_next_link() -> None:
    # given 60 per cent of 60 per cent, which multiplied would be 36
    middle = company("middle", ("Listed", 60), ("Clean", 40))
    maker = company("maker", ("middle", 60), ("Clean", 40))
    # then nothing is multiplied
    assert shares(maker, middle, LISTED, CLEAN) == (60, 0)


def test_a_company_less_than_half_owned_by_listed_parties_counts_for_nothing() -> None:
    # given all of the maker in the hands of one that is listed by 49.99 per cent
    middle = company("middle", ("Listed", "49.99"), ("Clean", "50.01"))
    # then no part of it is carried on
    assert shares(company("maker", ("middle", 100)), middle, LISTED, CLEAN) == (0, 0)


def test_small_holders_of_the_same_sort_add_up_through_several_links() -> None:
    # given 30 per cent listed, and 25 per cent of one that two listed parties own by half
    other = company("other", dispersed=100, listed=True)
    middle = company("middle", ("Listed", 25), ("other", 25), ("Clean", 50))
    maker = company("maker", ("Listed", 30), ("middle", 25), ("Clean", 45))
    # then they are 55
    assert shares(maker, middle, other, LISTED, CLEAN) == (55, 0)


def test_a_cycle_counts_nobody_on_its_own_account() -> None:
    # given two companies that own 60 per cent of each other, and founders the rest
    left = company("left", ("right", 60), ("Anna", 40))
    right = company("right", ("left", 60), ("Anna", 40))
    assert shares(left, right, ANNA, of="left") == (0, 0)
    # when one of them gets half of its shares into listed hands
    right = company("right", ("left", 40), ("Listed", 50), ("Anna", 10))
    # then so does the other
    assert shares(left, right, ANNA, LISTED, of="left") == (60, 0)
    assert shares(left, right, ANNA, LISTED, of="right") == (90, 0)


def test_control_without_shares_makes_a_person_of_china_and_no_listed_one() -> None:
    # given a company of others that a listed Chinese one controls, and one more below it
    boss = company("boss", dispersed=100, seat="CN", listed=True)
    middle = company("middle", ("Clean", 100), controlled_by="boss")
    maker = company("maker", ("middle", 50), ("Clean", 50))
    # then both are persons of China, and there lies their ultimate parent
    assert shares(middle, boss, CLEAN, of="middle") == (0, 100)
    assert shares(maker, middle, boss, CLEAN) == (0, 50)
    assert ultimate_parent(register([middle, boss, CLEAN]), "middle").seat == CN
    # and so where nobody has screened who controls it
    assert shares(middle, CLEAN, of="middle") == (0, 100)
    assert ultimate_parent(register([middle, CLEAN]), "middle").doubt == "boss was never screened"


def test_the_search_of_who_controls_a_company_ages_too() -> None:
    boss = company("boss", dispersed=100, at=NOW - 48 * HOUR_S)
    assert found(company("maker", ("Clean", 100), controlled_by="boss"), boss, CLEAN).at == boss.at


def test_a_search_is_as_old_as_the_oldest_in_its_chain() -> None:
    # given a chain whose top was searched two days ago
    maker, middle = company("maker", ("middle", 100)), company("middle", ("top", 100))
    top = company("top", dispersed=100, at=NOW - 48 * HOUR_S)
    # then that is how old it is, all the way down and not beside it
    assert found(maker, middle, top).at == NOW - 48 * HOUR_S
    assert found(maker, middle, top, CLEAN, of="Clean").at == NOW - HOUR_S


def test_a_search_of_tomorrow_is_none() -> None:
    # given an owner whose search is dated tomorrow
    owner = company("owner", dispersed=100, at=NOW + 24 * HOUR_S)
    maker = company("maker", ("owner", 100))
    # then the chain is as far in the future, where no pack takes it, until tomorrow
    assert found(maker, owner).at == NOW + 24 * HOUR_S
    assert found(maker, owner, now_s=NOW + 24 * HOUR_S).at == NOW - HOUR_S


def test_the_newest_search_of_a_party_counts_with_its_owners() -> None:
    old = company("maker", ("Listed", 100), at=NOW - 2 * HOUR_S)
    new = company("maker", ("Clean", 100), at=NOW - HOUR_S)
    assert shares(new, old, LISTED, CLEAN) == shares(old, new, LISTED, CLEAN) == (0, 0)


# ---- malformed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owners", "dispersed", "said"),
    [
        ([("a", "-1")], 0, "a share of 'a' above 0"),
        ([("a", "0")], 0, "a share of 'a' above 0"),
        ([("a", "100.01")], 0, "at most 100 per cent"),
        ([("a", "NaN")], 0, "a share of 'a'"),
        ([("a", "Infinity")], 0, "a share of 'a'"),
        ([("a", "33.3333333")], 0, "at most 6 decimal places"),
        ([("a", "60"), ("b", "40.06")], 0, "100 per cent in sum, got 100.06"),
        ([("a", "60"), ("a", "40")], 0, "each owner once"),
        ([("maker", "10")], 90, "no shares of its own"),
        ([("", "10")], 90, "names of 1 to 200 letters"),
        ([("x" * 201, "10")], 90, "names of 1 to 200 letters"),
        ([("a", "60")], "-1", "in dispersed hands"),
        ([("a", "60")], "40.06", "100 per cent in sum"),
    ],
)
def test_shares_that_cannot_be_are_an_error(
    owners: list[tuple[str, str]], dispersed: str, said: str
) -> None:
    with pytest.raises(FormatError, match=said):
        company("maker", *owners, dispersed=dispersed)


def test_nobody_controls_itself() -> None:
    with pytest.raises(FormatError, match="another party that controls it"):
        company("maker", dispersed=100, controlled_by="maker")


@pytest.mark.parametrize("kind", [Kind.PERSON, Kind.STATE])
def test_persons_and_states_have_no_owners(kind: Kind) -> None:
    with pytest.raises(FormatError, match=f"no owners of a {kind}"):
        company("Anna", ("Clean", 100), kind=kind)


def test_shares_may_miss_a_hundred_by_their_rounding() -> None:
    # given three thirds, rounded up; and down
    up = company("maker", *((name, "33.34") for name in ("Anna", "Clean", "Bert")))
    down = company("maker", *((name, "33.33") for name in ("Anna", "Clean", "Bert")))
    # then neither is worth a word
    for maker in (up, down):
        owners = register([maker, ANNA, CLEAN, person("Bert")])
        assert ownership_findings(owners, "maker") == ()


def test_two_searches_of_one_time_are_an_error() -> None:
    with pytest.raises(FormatError, match="'Clean': expected one for each time, got two"):
        register([CLEAN, replace(CLEAN, us_listed=True)])


# ---- the ultimate parent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "names", "seat"),
    [
        ([company("maker", dispersed=100)], ["maker"], EU),
        ([company("maker", ("top", "50.01"), dispersed="49.99")], ["maker", "top"], US),
        ([company("maker", ("top", "50"), ("Anna", "50"))], ["maker"], EU),
        (
            [
                company("maker", ("middle", 51), dispersed=49),
                company("middle", ("top", 51), ("Li", 49)),
            ],
            ["maker", "middle", "top"],
            US,
        ),
        ([company("maker", ("Li", 100))], ["maker", "Li"], CN),
    ],
    ids=["dispersed", "just more than half", "half", "two links", "a person"],
)
def test_the_ultimate_parent_owns_more_than_half_in_every_link(
    rows: list[Screened], names: list[str], seat: Jurisdiction
) -> None:
    # given a top in the United States
    top = company("top", dispersed=100, seat="US")
    # when
    parent = ultimate_parent(register([*rows, top, ANNA, LI]), "maker")
    # then
    assert (list(parent.chain), parent.seat, parent.doubt) == (names, seat, "")


@pytest.mark.parametrize(
    ("rows", "doubt"),
    [
        ([company("maker", ("top", 60), ("Anna", 40))], "top was never screened"),
        ([company("maker", ("Anna", "49.9"))], "most of maker is not accounted for"),
        ([company("maker")], "most of maker is not accounted for"),
        (
            [
                company("maker", ("left", 60), ("Anna", 40)),
                company("left", ("maker", 60), ("Anna", 40)),
            ],
            "left is owned in a circle",
        ),
        (
            [
                company("maker", ("left", 50), ("right", 50)),
                company("left", ("maker", 50), ("right", 50)),
                company("right", ("maker", 50), ("left", 50)),
            ],
            "most of maker is not accounted for",
        ),
    ],
)
def test_a_parent_that_is_not_known_counts_as_chinese(rows: list[Screened], doubt: str) -> None:
    parent = ultimate_parent(register([*rows, ANNA]), "maker")
    assert (parent.seat, parent.doubt) == (CN, doubt)


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([company("maker", ("Listed", "24.99"), ("Clean", "75.01"))], []),
        (
            [company("maker", ("Listed", 25), ("Clean", 75))],
            ["25 % held by listed parties: 25 % Listed (listed)"],
        ),
        (
            [
                company("maker", ("Listed", 30), ("middle", 25), ("Clean", 45)),
                company("middle", ("Listed", 60), ("Clean", 40)),
            ],
            [
                (
                    "treated as listed: 30 % Listed (listed) + "
                    "25 % middle (treated as listed: 60 % Listed (listed))"
                )
            ],
        ),
        (
            [company("maker", ("Li", "12.5"), ("SASAC", "12.5"), ("Clean", 75))],
            [
                (
                    "25 % held by persons of China or Russia: "
                    "12.5 % Li (seat CN) + 12.5 % SASAC (the state CN)"
                )
            ],
        ),
        (
            [company("maker", ("Clean", 100), controlled_by="Li")],
            ["treated as a person of China or Russia: controlled by Li (seat CN)"],
        ),
        (
            [company("maker", ("Li", 100), seat="CN")],
            ["treated as a person of China or Russia: seat CN"],
        ),
        (
            [company("maker", ("unknown", 10), ("Clean", 88))],
            ["never screened: unknown", "not accounted for: 2 % of maker"],
        ),
        (
            [company("maker", ("unknown", 40), ("Clean", 50))],
            [
                "treated as listed: 40 % unknown (never screened) + 10 % not accounted for",
                (
                    "treated as a person of China or Russia: "
                    "40 % unknown (never screened) + 10 % not accounted for"
                ),
                "never screened: unknown",
                "not accounted for: 10 % of maker",
            ],
        ),
        (
            [
                company("maker", ("left", 20), ("Clean", 80)),
                company("left", ("right", 100)),
                company("right", ("left", 100)),
            ],
            ["owned in a circle that ends in nobody: left, right"],
        ),
        ([], ["never screened"]),
    ],
)
def test_a_person_is_told_what_there_is_to_say(rows: list[Screened], expected: list[str]) -> None:
    # given
    sasac = company("SASAC", kind=Kind.STATE, seat="CN")
    owners = register([*rows, LISTED, CLEAN, LI, sasac])
    # then
    assert list(ownership_findings(owners, "maker")) == expected


def test_what_the_agreement_says_of_a_company_is_not_said_again() -> None:
    owners = register([company("maker", ("Li", 100), seat="CN"), LI])
    assert ownership_findings(owners, "maker", adversary=False) == ()


def test_owners_that_meet_again_are_told_once() -> None:
    # given forty companies, each of which is owned by all before it: 2**39 ways up
    names = [f"c{n}" for n in range(40)]
    rows = [
        company(name, *((above, "2.5") for above in names[:n]), ("Listed", 100 - 2.5 * n))
        if n
        else company(name, ("Listed", 100))
        for n, name in enumerate(names)
    ]
    # when
    (line,) = ownership_findings(register([*rows, LISTED]), names[-1])
    # then
    assert len(line) < 40_000
    assert line.startswith("treated as listed: 2.5 % c0 (treated as listed: 100 % Listed (listed))")


def test_a_long_chain_is_worked_out_and_told_in_part() -> None:
    # given five thousand companies, each of which owns the next
    rows = [company(f"c{n}", (f"c{n + 1}", 100)) for n in range(5000)]
    top = company("c5000", dispersed=100, listed=True, seat="US")
    owners = register([*rows, top])
    # then the top counts at the bottom
    known = screening(owners, "c0", now_s=NOW)
    assert known is not None
    assert known.listed_owners_percent == 100
    assert ultimate_parent(owners, "c0").seat == US
    assert ownership_findings(owners, "c0")[0].startswith("treated as listed: 100 % c1 (")


# ---- against the plain words ---------------------------------------------------------------------

NAMES = tuple("abcde")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Screened, ...]:
    """Up to five parties that own each other in shares of tenths, cycles and gaps included."""
    rows = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        kind = draw(st.sampled_from([Kind.COMPANY, Kind.COMPANY, Kind.COMPANY, Kind.PERSON]))
        left, owners = 100, []
        for owner in draw(st.permutations([*NAMES, "stranger"])) if kind is Kind.COMPANY else ():
            held = draw(st.sampled_from([0, 0, 0, 10, 20, 25, 30, 40, 50, 60, 100]))
            if held and owner != name and held <= left:
                owners.append((owner, held))
                left -= held
        rest = draw(st.sampled_from([0, left])) if kind is Kind.COMPANY else 0
        rows.append(
            company(
                name,
                *owners,
                dispersed=rest,
                kind=kind,
                controlled_by=draw(st.sampled_from(["", "", "", *({*NAMES} - {name})]))
                if kind is Kind.COMPANY
                else "",
                seat=draw(st.sampled_from(["EU", "EU", "EU", "CN"])),
                listed=draw(st.sampled_from([False, False, False, True])),
            )
        )
    return tuple(rows)


def subsets(names: Iterable[str]) -> Iterable[frozenset[str]]:
    names = sorted(names)
    sizes = (combinations(names, size) for size in range(len(names) + 1))
    return map(frozenset, chain.from_iterable(sizes))


def slow_tally(rows: tuple[Screened, ...], tainted: Iterable[str], *, control: bool) -> Tally:
    """By the words, trying every set of parties: the smallest in which all counts that must."""
    by_name = {row.name: row for row in rows}
    everybody = {*by_name, *(share.owner for row in rows for share in row.owners)}
    if control:
        everybody |= {row.controlled_by for row in rows if row.controlled_by}

    def ends(name: str, below: frozenset[str]) -> bool:
        """Whether some way up from `name` comes to an end that is known."""
        row = by_name.get(name)
        if row is None or name in below:
            return False
        if row.kind is not Kind.COMPANY or row.dispersed:
            return True
        return any(ends(share.owner, below | {name}) for share in row.owners)

    def missing(row: Screened) -> Decimal:
        if row.kind is not Kind.COMPANY:
            return Decimal(0)
        return WHOLE - row.stated if ends(row.name, frozenset()) else WHOLE

    def held(row: Screened, counted: frozenset[str]) -> Decimal:
        by_control = WHOLE if control and row.controlled_by in counted else Decimal(0)
        return missing(row) + by_control + sum(s.percent for s in row.owners if s.owner in counted)

    def must(name: str, counted: frozenset[str]) -> bool:
        row = by_name.get(name)
        return row is None or name in tainted or held(row, counted) >= HALF

    closed = [
        counted
        for counted in subsets(everybody)
        if all(name in counted for name in everybody if must(name, counted))
    ]
    least = frozenset.intersection(*closed)
    assert least in closed
    return Tally(counted=least, held={row.name: held(row, least) for row in rows})


LOOP = (
    company("a", ("b", 40), ("c", 60)),
    company("b", ("a", 100)),
    company("c", ("a", 100)),
)


@given(graphs())
@example(LOOP)
def test_the_shares_are_those_of_the_plain_words(rows: tuple[Screened, ...]) -> None:
    # when
    owners = register(rows)
    # then
    listed = [row.name for row in rows if row.us_listed]
    assert owners.listed == slow_tally(rows, listed, control=False)
    adverse = [row.name for row in rows if row.seat in ADVERSARIES]
    assert owners.adversary == slow_tally(rows, adverse, control=True)


def results(owners: Owners, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    found = {name: screening(owners, name, now_s=NOW) for name in names}
    return {
        name: (100, 100)
        if known is None
        else (
            known.listed_owners_percent,
            known.adversary_owners_percent,
        )
        for name, known in found.items()
    }


def never_lower(before: tuple[Screened, ...], after: tuple[Screened, ...]) -> bool:
    names = [row.name for row in before]
    was, now = results(register(before), names), results(register(after), names)
    return all(now[name][0] >= was[name][0] and now[name][1] >= was[name][1] for name in names)


@given(graphs(), st.data())
def test_a_listing_never_lowers_a_share(rows: tuple[Screened, ...], data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(rows))
    worse = replace(row, us_listed=True, seat=data.draw(st.sampled_from([row.seat, CN, RU])))
    assert never_lower(rows, tuple(worse if each is row else each for each in rows))


@given(graphs(), st.data())
@example(LOOP, None)
def test_what_is_forgotten_never_lowers_a_share(
    rows: tuple[Screened, ...], data: st.DataObject | None
) -> None:
    # given a row that is gone, or an owner in it, or the dispersed holders
    chosen = rows if data is None else (data.draw(st.sampled_from(rows)),)
    for row in chosen:
        less = [
            replace(row, owners=tuple(s for s in row.owners if s is not share))
            for share in row.owners
        ]
        for fewer in (None, replace(row, dispersed=Decimal(0)), *less):
            left = [fewer if each is row else each for each in rows]
            # then nothing looks better
            assert never_lower(rows, tuple(each for each in left if each is not None))


@given(graphs(), st.data())
def test_a_share_that_goes_to_a_listed_owner_never_lowers_a_share(
    rows: tuple[Screened, ...], data: st.DataObject
) -> None:
    # given a company, and a listed Chinese party that gets the shares of one of its owners, of the
    # dispersed holders, or what nobody accounts for
    row = data.draw(st.sampled_from([*rows, company("f", ("a", 10), dispersed=90)]))
    bad = company("bad", dispersed=100, listed=True, seat="CN")
    if row.kind is not Kind.COMPANY:
        return
    lost = data.draw(st.sampled_from([None, *row.owners]))
    kept = tuple(share for share in row.owners if share is not lost)
    taken = lost.percent if lost else row.dispersed or WHOLE - row.stated
    if not taken:
        return
    dispersed = row.dispersed if lost else Decimal(0)
    sold = replace(row, owners=(*kept, Share(owner="bad", percent=taken)), dispersed=dispersed)
    before = (*(each for each in rows if each.name != row.name), row, bad)
    after = (*(each for each in rows if each.name != row.name), sold, bad)
    # then
    assert never_lower(before, after)


@given(graphs(), st.randoms())
def test_the_order_of_the_rows_is_nothing(
    rows: tuple[Screened, ...], random: st.RandomType
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)
    assert results(register(mixed), NAMES) == results(register(rows), NAMES)
