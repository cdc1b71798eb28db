"""Who is behind a company: the registered chain of its owners, and what it amounts to.

    owners = register([maker, holding, founder])      # one `Screened` each, cycles allowed
    screening(owners, "Sample Motors GmbH", now_s=clock())
    ultimate_parent(owners, "Sample Motors GmbH").seat
    for line in ownership_findings(owners, "Sample Motors GmbH"):
        print(line)

Rules US-EAR-50PCT, US-ICTS-791.303, US-ICTS-791.304 and US-CVSA-BILL with the readings of the
reference's section 8: owners of one sort add up; a company of which they hold half counts as one of
them, and then counts whole in the next link, without multiplication.  Control without shares makes
a company a person of China or Russia, too, but not a listed one.  What is not known counts against
the company.  Engineering input, not legal advice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from ringfence.core.errors import FormatError
from ringfence.core.ids import Jurisdiction
from ringfence.policy.facts import Percent, Screening

ADVERSARIES = frozenset(Jurisdiction(code) for code in ("CN", "HK", "MO", "RU"))
"""Whose persons US-ICTS-791.303 is about: China, with Hong Kong and Macau, and Russia."""

WHOLE, HALF, QUARTER, NOTHING = (Decimal(number) for number in (100, 50, 25, 0))
ROUNDING = Decimal("0.05")
"""How far shares may miss 100 per cent because each of them was rounded."""

Holdings = defaultdict[str, list[tuple[str, Decimal]]]
"""What each owner holds: companies, and per cent of them."""

_UNKNOWN_SEAT = Jurisdiction("CN")
_MOST_PLACES = 6
_TEXT_LIMIT = 200
_MOST_TOLD = 32
_LISTED, _ADVERSARY = "listed", "a person of China or Russia"


class Kind(StrEnum):
    """What may own a company; persons and states end a chain."""

    COMPANY = "company"
    PERSON = "person"
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one owner holds of a company, in per cent, exactly."""

    owner: str
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What a search found about one party at the time `at` (seconds since the epoch).

    `seat` is where a company is incorporated, where a person lives or whose national it is, or the
    state.  `dispersed` are the per cent of a company that holders without a share to be disclosed
    have between them; they end a chain, too.  `controlled_by` is who controls a company by votes,
    contracts or its board, whatever it holds; empty: nobody but its owners.
    """

    name: str
    kind: Kind
    seat: Jurisdiction
    at: float
    us_listed: bool
    cn_listed: bool
    owners: tuple[Share, ...]
    dispersed: Decimal
    controlled_by: str = ""

    def __post_init__(self) -> None:
        names = [share.owner for share in self.owners]
        for name in (self.name, *names, self.controlled_by or self.name):
            self._expect(0 < len(name) <= _TEXT_LIMIT, "names of 1 to 200 letters")
        self._expect(math.isfinite(self.at), "a finite time of screening")
        self._expect(len(set(names)) == len(names), "each owner once; add its shares up")
        self._expect(self.name not in names, "no shares of its own; state the rest out of 100")
        self._expect(self.name != self.controlled_by, "another party that controls it")
        for share in self.owners:
            self._expect(
                _exact(share.percent) and share.percent > NOTHING,
                f"a share of {share.owner!r} above 0 and at most 100 per cent, with at most "
                f"{_MOST_PLACES} decimal places, got {share.percent}",
            )
        self._expect(
            _exact(self.dispersed),
            f"0 to 100 per cent in dispersed hands, with at most {_MOST_PLACES} decimal places, "
            f"got {self.dispersed}",
        )
        self._expect(
            self.kind is Kind.COMPANY or not (self.owners or self.dispersed or self.controlled_by),
            f"no owners of a {self.kind}",
        )
        self._expect(
            self.stated <= WHOLE + ROUNDING, f"shares of 100 per cent in sum, got {self.stated}"
        )

    @property
    def stated(self) -> Decimal:
        """Per cent of the company of which the owners are stated."""
        return sum((share.percent for share in self.owners), self.dispersed)

    @property
    def above(self) -> frozenset[str]:
        """Everybody who owns or controls it."""
        control = {self.controlled_by} if self.controlled_by else set[str]()
        return frozenset(share.owner for share in self.owners) | control

    def _expect(self, holds: bool, expected: str) -> None:
        if not holds:
            raise FormatError(f"screening of {self.name[:80]!r}: expected {expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Who counts as one sort of party, and the per cent of each company that they hold.

    A share that nobody accounts for is in every tally.
    """

    counted: frozenset[str]
    held: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Every registered party by name, and what they amount to together.

    `open_ended` are companies whose chains end in nobody known, `unaccounted` the per cent of each
    that nobody accounts for.
    """

    parties: Mapping[str, Screened]
    open_ended: frozenset[str]
    unaccounted: Mapping[str, Decimal]
    listed: Tally
    adversary: Tally
    # Worked out once for each company that is asked about, with the time of the newest search:
    # every decision asks for every contributor.
    _screenings: dict[str, tuple[Screening, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Who stands above a company, reached through owners of more than half, or who control it.

    `chain` begins with the company; `doubt` says why the last of them is not known to be the top,
    and then `seat` is the one that counts against the company.
    """

    chain: tuple[str, ...]
    seat: Jurisdiction
    doubt: str


def register(rows: Iterable[Screened]) -> Owners:
    """Work out who counts as what, by the newest search of each party.

    Raises: FormatError where two searches of one party are of the same time.
    """
    parties: dict[str, Screened] = {}
    for row in sorted(rows, key=lambda row: row.at):
        known = parties.get(row.name)
        if known is not None and known.at == row.at:
            raise FormatError(f"screening of {row.name!r}: expected one for each time, got two")
        parties[row.name] = row
    holdings: Holdings = defaultdict(list)
    for row in parties.values():
        for share in row.owners:
            holdings[share.owner].append((row.name, share.percent))
    controlled: Holdings = defaultdict(list, {name: [*held] for name, held in holdings.items()})
    for row in parties.values():
        if row.controlled_by:
            controlled[row.controlled_by].append((row.name, WHOLE))
    open_ended = frozenset(parties) - _ending(parties, holdings)
    unaccounted = {
        row.name: WHOLE if row.name in open_ended else _missing(row) for row in parties.values()
    }
    listed = {row.name for row in parties.values() if row.us_listed}
    adverse = {row.name for row in parties.values() if row.seat in ADVERSARIES}
    return Owners(
        parties=parties,
        open_ended=open_ended,
        unaccounted=unaccounted,
        listed=_tally(holdings, unaccounted, listed),
        adversary=_tally(controlled, unaccounted, adverse),
    )


def screening(owners: Owners, company: str, *, now_s: float) -> Screening | None:
    """What is known of `company` through all its chain; None when it was never screened.

    It is as old as the oldest search in the chain; one that lies after `now_s` counts for nothing,
    so that the time is then that one, which no pack takes.
    """
    if company not in owners.parties:
        return None
    if company not in owners._screenings:
        owners._screenings[company] = _screening(owners, owners.parties[company])
    known, newest = owners._screenings[company]
    return replace(known, at=newest) if newest > now_s else known


def ultimate_parent(owners: Owners, company: str) -> Parent:
    """Who controls `company` or owns more than half, and so with that owner, and on to the top.

    Where the chain cannot be followed, the seat is China's: what is not known counts as Chinese.
    Raises: KeyError when `company` itself was never screened.
    """
    chain = {company: None}
    row = owners.parties[company]
    while True:
        majority = (share.owner for share in row.owners if share.percent > HALF)
        major = row.controlled_by or next(majority, None)
        if major is not None and major in owners.parties and major not in chain:
            chain[major] = None
            row = owners.parties[major]
            continue
        doubt = ""
        if major is not None:
            doubt = f"{major} was never screened"
            if major in chain:
                doubt = f"{row.name} is owned in a circle"
        elif row.name in owners.open_ended or owners.unaccounted[row.name] > HALF:
            doubt = f"most of {row.name} is not accounted for"
        seat = _UNKNOWN_SEAT if doubt else row.seat
        return Parent(chain=tuple(chain), seat=seat, doubt=doubt)


def ownership_findings(owners: Owners, company: str, *, adversary: bool = True) -> tuple[str, ...]:
    """What a person should know of the owners of `company`, a line each; mostly nothing.

    `adversary` False leaves out what makes it a person of China or Russia, where that is plain.
    """
    if company not in owners.parties:
        return ("never screened",)
    lines = [_amounts_to(owners, company, owners.listed, _LISTED)]
    if adversary:
        lines.append(_amounts_to(owners, company, owners.adversary, _ADVERSARY))
    behind = sorted(_behind(owners, company))
    if unknown := [name for name in behind if name not in owners.parties]:
        lines.append(f"never screened: {', '.join(unknown)}")
    rows = [owners.parties[name] for name in behind if name in owners.parties]
    if missing := [row for row in rows if _missing(row) > ROUNDING]:
        parts = (f"{_plain(_missing(row))} % of {row.name}" for row in missing)
        lines.append(f"not accounted for: {', '.join(parts)}")
    if circle := [row.name for row in rows if _in_circle(owners, row)]:
        lines.append(f"owned in a circle that ends in nobody: {', '.join(circle)}")
    return tuple(line for line in lines if line)


def _screening(owners: Owners, row: Screened) -> tuple[Screening, float]:
    """As of the oldest search in the chain, and the time of the newest."""
    chain = _behind(owners, row.name) & owners.parties.keys()
    times = [owners.parties[name].at for name in chain]
    screening = Screening(
        at=min(times),
        us_listed=row.us_listed,
        cn_listed=row.cn_listed,
        listed_owners_percent=_percent(owners.listed.held[row.name]),
        adversary_owners_percent=_percent(
            # A company that sits there is one of theirs whoever owns it.
            WHOLE if row.seat in ADVERSARIES else owners.adversary.held[row.name]
        ),
    )
    return screening, max(times)


def _tally(holdings: Holdings, unaccounted: Mapping[str, Decimal], known: Collection[str]) -> Tally:
    """The least set with all `known`, all strangers and every company of which the set holds half.

    INVARIANT: each party joins once and its shares are added once, so that a cycle ends and nobody
    in it counts on its own account.
    """
    held = dict(unaccounted)
    strangers = holdings.keys() - held.keys()
    counted = {*known, *strangers, *(name for name, each in held.items() if each >= HALF)}
    waiting = list(counted)
    while waiting:
        for company, percent in holdings.get(waiting.pop(), []):
            held[company] += percent
            if held[company] >= HALF and company not in counted:
                counted.add(company)
                waiting.append(company)
    return Tally(counted=frozenset(counted), held=held)


def _ending(parties: Mapping[str, Screened], holdings: Holdings) -> set[str]:
    """Parties above whom, somewhere, a person, a state or dispersed holders end the chain."""
    ending = {row.name for row in parties.values() if row.kind is not Kind.COMPANY or row.dispersed}
    waiting = list(ending)
    while waiting:
        for company, _ in holdings.get(waiting.pop(), []):
            if company not in ending:
                ending.add(company)
                waiting.append(company)
    return ending


def _missing(row: Screened) -> Decimal:
    return NOTHING if row.kind is not Kind.COMPANY else max(NOTHING, WHOLE - row.stated)


def _behind(owners: Owners, company: str) -> set[str]:
    """The company and everybody above it, screened or not."""
    found, waiting = {company}, [company]
    while waiting:
        row = owners.parties.get(waiting.pop())
        above = row.above - found if row else frozenset[str]()
        found |= above
        waiting.extend(above)
    return found


def _in_circle(owners: Owners, row: Screened) -> bool:
    """Whether nobody stands at the end of the chain because it comes back to the company."""
    return row.name in owners.open_ended and any(
        row.name in _behind(owners, share.owner) for share in row.owners
    )


def _percent(held: Decimal) -> Percent:
    """Whole per cent, rounded down: `floor(x) >= 50` holds exactly where `x >= 50` does."""
    return Percent(math.floor(min(held, WHOLE)))


def _exact(percent: Decimal) -> bool:
    """Whether it is a share whose sums are exact, too."""
    exponent = percent.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_PLACES and NOTHING <= percent <= WHOLE


# ── words for people ──


def _amounts_to(owners: Owners, company: str, tally: Tally, sort: str) -> str:
    held = tally.held[company]
    if sort == _ADVERSARY and owners.parties[company].seat in ADVERSARIES:
        return f"treated as {sort}: {_seated(owners.parties[company])}"
    if held >= HALF:
        return f"treated as {sort}: {_sum(owners, company, tally, sort, {company})}"
    if held >= QUARTER:
        whose = "listed parties" if sort == _LISTED else "persons of China or Russia"
        why = _sum(owners, company, tally, sort, {company})
        return f"{_plain(held)} % held by {whose}: {why}"
    return ""


def _sum(owners: Owners, company: str, tally: Tally, sort: str, said: set[str]) -> str:
    """The shares that count, each with its reason; nobody's owners are told twice."""
    return " + ".join(_summands(owners, company, tally, sort, said))


def _summands(
    owners: Owners, company: str, tally: Tally, sort: str, said: set[str]
) -> Iterator[str]:
    row = owners.parties[company]
    if sort == _ADVERSARY and row.controlled_by in tally.counted:
        why = _why(owners, row.controlled_by, tally, sort, said)
        yield f"controlled by {row.controlled_by} ({why})"
    for share in row.owners:
        if share.owner in tally.counted:
            why = _why(owners, share.owner, tally, sort, said)
            yield f"{_plain(share.percent)} % {share.owner} ({why})"
    if missing := _missing(row):
        yield f"{_plain(missing)} % not accounted for"


def _why(owners: Owners, name: str, tally: Tally, sort: str, said: set[str]) -> str:
    row = owners.parties.get(name)
    if row is None:
        return "never screened"
    if sort == _LISTED and row.us_listed:
        return sort
    if sort == _ADVERSARY and row.seat in ADVERSARIES:
        return _seated(row)
    if name in said or len(said) > _MOST_TOLD:
        circle = name in said and name in owners.open_ended
        return "in a circle" if circle else f"treated as {sort}"
    said.add(name)
    return f"treated as {sort}: {_sum(owners, name, tally, sort, said)}"


def _seated(row: Screened) -> str:
    return f"the state {row.seat}" if row.kind is Kind.STATE else f"seat {row.seat}"


def _plain(percent: Decimal) -> str:
    return f"{percent.normalize():f}"
