"""A panel answers as Cedar does that is given every fact and all policies each time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pytest
from cedarpy import Decision, PolicySet, is_authorized, policies_to_json_str
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.demo_world import DAY_S, NOW, planned_crossings
from tests.policy.oracle import load_oracle
from tests.policy.oracle_questions import PAPER, asked, refused_whatever_is_held

from ringfence.core.errors import ConfigError
from ringfence.core.ids import Jurisdiction
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Cohort, Compute, Counters, ExtractionTest, Question
from ringfence.policy.flow import MOMENT
from ringfence.policy.judge import Judge
from ringfence.policy.packs import (
    DEFAULT_RULE,
    SHIPPED_PACKS_DIR,
    Pack,
    Rule,
    load_packs,
    parse_pack,
    policy_set,
)
from ringfence.policy.panel import Answer, ask, note, seat
from ringfence.policy.request import CedarRequest, cedar_request
from ringfence.policy.words import Action, Chip, DataClass, Purpose, Trait

PLAN = [question for _, question in planned_crossings()]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The policies of packs as they are written, with flags as permits, and the flags alone."""

    packs: tuple[Pack, ...]
    rules: tuple[tuple[Pack, Rule], ...]
    forbidding: frozenset[str]
    policies: PolicySet
    flags: PolicySet

    def answer(self, request: CedarRequest) -> Answer:
        """Cedar's own decision, reasons and errors, in the panel's words."""
        decision, reasons, errors = self._evaluate(request, self.policies)
        matched = self._named(reasons)
        refusals = [note(*self.rules[n]) for n in matched if f"policy{n}" in self.forbidding]
        if errors:
            text = "; ".join(errors)
            for n in reversed(range(len(self.rules))):
                pack, rule = self.rules[n]
                text = text.replace(f"policy{n}", f"{rule.id} of pack {pack.name}")
            platform = self.packs[0]
            failed = note(platform, platform.rule(DEFAULT_RULE), text)
            return Answer(refusals=(*refusals, failed), flags=())
        permitting = {self.rules[n][0].name for n in matched if self.rules[n][1].id == DEFAULT_RULE}
        missing = [
            note(pack, pack.rule(DEFAULT_RULE), f"nothing in pack {pack.name} permits this")
            for pack in self.packs
            if pack.name not in permitting
        ]
        if decision is Decision.Deny:
            matched = self._named(self._evaluate(request, self.flags)[1])
        flags = [note(*self.rules[n]) for n in matched if self.rules[n][1].effect == "FLAG"]
        if not refusals and not missing:
            assert decision is Decision.Allow
        return Answer(refusals=tuple(refusals or missing), flags=tuple(flags))

    def _named(self, reasons: Iterable[str]) -> list[int]:
        return sorted(int(id_.removeprefix("policy")) for id_ in reasons)

    def _evaluate(
        self, request: CedarRequest, policies: PolicySet
    ) -> tuple[Decision, list[str], list[str]]:
        vocabulary = self.packs[0].vocabulary
        asked = request.to_cedar(request.context)
        result = is_authorized(asked, policies, vocabulary.items, vocabulary.schema)
        return result.decision, result.diagnostics.reasons, result.diagnostics.errors


def whole(packs: tuple[Pack, ...]) -> Whole:
    rules: list[tuple[Pack, Rule]] = []
    policies: dict[str, dict[str, object]] = {}
    for pack in packs:
        written = json.loads(policies_to_json_str(pack.text))["staticPolicies"]
        for n, rule in enumerate(pack.rules):
            effect = "permit" if rule.effect == "FLAG" else written[f"policy{n}"]["effect"]
            policies[f"policy{len(rules)}"] = {**written[f"policy{n}"], "effect": effect}
            rules.append((pack, rule))
    flags = {f"policy{n}" for n, (_, rule) in enumerate(rules) if rule.effect == "FLAG"}
    return Whole(
        packs=packs,
        rules=tuple(rules),
        forbidding=frozenset(id_ for id_, each in policies.items() if each["effect"] == "forbid"),
        policies=policy_set(policies),
        flags=policy_set({id_: policies[id_] for id_ in flags}),
    )


WHOLE = whole(load_packs(SHIPPED_PACKS_DIR))
PANEL = seat(WHOLE.packs)


def of_the_oracle() -> Iterator[Question]:
    """Every cell with all its conditions met, and with each of them not, at both ends."""
    oracle = load_oracle()
    for cell in oracle.cells:
        for kind in cell.kinds:
            for route in cell.routes:
                yield asked(oracle, cell, route, kind, action=Action.IMPORT)
                for condition in (None, *route.conditions):
                    yield asked(oracle, cell, route, kind, without=condition)
            if not cell.permitted:
                for bare in (True, False):
                    yield refused_whatever_is_held(oracle, cell, kind, bare=bare)


def at_other_moments(question: Question) -> Iterator[Question]:
    """The same flow after time has passed, more was exported, or nothing is known any more."""
    yield question
    yield replace(question, now=question.now + 2 * DAY_S)
    many = Counters(
        cn_people=2_000_000,
        cn_sensitive_people=20_000,
        us_people=200_000,
        us_devices=40,
        us_line=1000,
    )
    yield replace(question, counters=many, cohort=Cohort(smallest=1, floor=10))
    yield replace(question, counters=None, extraction=None, cohort=None, affected=True)


def request_of(question: Question) -> CedarRequest:
    return cedar_request(question, coverage(question))


@pytest.mark.parametrize(
    "questions",
    [
        pytest.param(list(of_the_oracle()), id="oracle", marks=pytest.mark.slow),
        pytest.param(list(of_the_oracle())[::10], id="a tenth of the oracle"),
        pytest.param(PLAN, id="demo"),
    ],
)
def test_a_panel_answers_as_cedar_does_with_all_of_it(questions: list[Question]) -> None:
    answers = set()
    for question in questions:
        for at_moment in at_other_moments(question):
            # when the flow is new, and when it is known
            request = request_of(at_moment)
            answer = ask(PANEL, request)
            # then refusals, flags and errors are the same to the letter
            assert answer == WHOLE.answer(request)
            answers.add(answer.refusals)
    assert () in answers
    assert len(answers) >= 10


KNOWN_PLACES = st.sampled_from(["CN", "EU", "US", "JP", "RU", "AE"]).map(Jurisdiction)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "now": st.sampled_from([NOW - 40 * DAY_S, NOW + 3599, NOW + 2 * DAY_S, NOW + 31 * DAY_S]),
        "purpose": st.sampled_from(Purpose),
        "classes": st.frozensets(st.sampled_from(DataClass)),
        "carries_seed": st.booleans(),
        "carries_crypto": st.booleans(),
        "market": st.none(),
        "compute": st.none()
        | st.builds(
            Compute, chip=st.sampled_from(Chip), training_ops=st.sampled_from([0.0, 1e24, 2e26])
        ),
        "counters": st.none()
        | st.builds(
            Counters,
            cn_people=st.integers(0, 2_000_000),
            cn_sensitive_people=st.integers(0, 20_000),
            us_people=st.integers(0, 200_000),
            us_devices=st.integers(0, 200_000),
            us_line=st.sampled_from([1000, 100_000]),
        ),
        "cohort": st.none()
        | st.builds(Cohort, smallest=st.integers(0, 20), floor=st.integers(1, 20)),
        "extraction": st.none()
        | st.builds(
            ExtractionTest,
            passed=st.booleans(),
            tested_at=st.sampled_from([NOW - 31 * DAY_S, NOW, NOW + 60]),
            evidence=st.just(PAPER),
        ),
        "affected": st.none() | st.booleans(),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    question=st.sampled_from(PLAN),
    changes=CHANGES,
    held=st.sets(st.integers(0, 60)),
    parent=st.none() | KNOWN_PLACES | st.just(Jurisdiction("FR")),
    traits=st.frozensets(st.sampled_from(Trait)),
    screened=st.booleans(),
)
def test_a_panel_answers_as_cedar_does_whatever_the_facts(
    question: Question,
    changes: dict[str, object],
    held: set[int],
    parent: Jurisdiction | None,
    traits: frozenset[Trait],
    screened: bool,
) -> None:
    # given facts that are known or not, in the schema's words or (a parent in France) not
    recipient = replace(question.recipient, traits=traits)
    if parent is not None:
        recipient = replace(recipient, parent=parent)
    if not screened:
        recipient = replace(recipient, screening=None)
    alone = question.sender == question.recipient
    question = replace(
        question,
        recipient=recipient,
        sender=recipient if alone else question.sender,
        approvals=tuple(each for n, each in enumerate(question.approvals) if n not in held),
        **changes,  # type: ignore[arg-type]
    )
    # then
    request = request_of(question)
    assert ask(PANEL, request) == WHOLE.answer(request)


@pytest.mark.parametrize("fact", ["to", "market", "compute", "counters", "now", "purpose"])
def test_a_missing_fact_refuses_and_is_named(fact: str) -> None:
    # given a request that lacks a fact of the flow or of the moment, its flow known or not
    lawful = request_of(PLAN[0])
    assert ask(PANEL, lawful).refusals == ()
    part = "moment" if fact in MOMENT else "flow"
    facts = json.loads(getattr(lawful, part))
    del facts[fact]
    request = replace(lawful, **{part: json.dumps(facts)})
    # when
    (refusal,) = ask(PANEL, request).refusals
    # then
    assert (refusal.id, refusal.pack) == (DEFAULT_RULE, "platform")
    assert f"`{fact}`" in refusal.detail


@pytest.mark.parametrize(
    ("part", "fact", "value"),
    [
        ("flow", "to", {"type": "Jurisdiction", "id": "XX"}),
        ("flow", "to", "EU"),
        ("flow", "papers", [1]),
        ("flow", "carries_seed", "no"),
        ("flow", "unknown", True),
        ("flow", "now", 1),
        ("moment", "now", "today"),
        ("moment", "now", 10**30),
        ("moment", "counters", {"cn_people": 0}),
        ("moment", "unknown", True),
        ("moment", "to", {"type": "Jurisdiction", "id": "EU"}),
    ],
)
def test_a_malformed_fact_refuses(part: str, fact: str, value: object) -> None:
    # given a lawful request with something else in one place
    lawful = request_of(PLAN[0])
    facts = {**json.loads(getattr(lawful, part)), fact: value}
    request = replace(lawful, **{part: json.dumps(facts)})
    # when
    (refusal,) = ask(PANEL, request).refusals
    # then
    assert refusal.id == DEFAULT_RULE
    assert refusal.detail


@pytest.mark.parametrize("fact", ["market.model_year", "counters.us_devices"])
def test_a_rule_that_fails_refuses_and_is_named_each_time(fact: str) -> None:
    # given a European rule about the flow or the moment that overflows, which Cedar skips
    eu = next(pack for pack in WHOLE.packs if pack.name == "eu")
    text = f"""
        @id("EU-TEST-1") @effect("DENY") @cite("none") @confidence("L") @remedy("none")
        forbid (principal, action, resource)
        when {{ context.{fact} * 4611686018427387904 > 0 }};
    """
    faulty = parse_pack("eu", eu.text + text, vocabulary=eu.vocabulary)
    packs = tuple(faulty if pack.name == "eu" else pack for pack in WHOLE.packs)
    panel = seat(packs)
    for question in at_other_moments(PLAN[0]):
        # when
        request = request_of(question)
        answer = ask(panel, request)
        # then
        assert answer == whole(packs).answer(request)
        assert answer.refusals


def test_a_policy_that_takes_the_context_as_a_whole_does_not_load(judge: Judge) -> None:
    # given
    eu = next(pack for pack in judge.packs if pack.name == "eu")
    text = """
        @id("EU-TEST-1") @effect("DENY") @cite("none") @confidence("L") @remedy("none")
        forbid (principal, action, resource) when { context == context };
    """
    # then it is named
    with pytest.raises(ConfigError, match=r"EU-TEST-1: expected context\.<fact>"):
        parse_pack("eu", eu.text + text, vocabulary=eu.vocabulary)
