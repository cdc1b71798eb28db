"""Packs: strict about every word, and in step with the reference and the program."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import pytest
from tests.policy.reference_rules import REFERENCE_RULES

from ringfence.core.errors import ConfigError
from ringfence.policy.judge import Judge
from ringfence.policy.packs import (
    SHIPPED_PACKS_DIR,
    Pack,
    copy_default_packs,
    load_packs,
    parse_pack,
    parse_vocabulary,
    require_rules,
)
from ringfence.policy.words import GROUPS_OF, Chip, DataClass, ItemGroup, Purpose

SCHEMA_TEXT = (SHIPPED_PACKS_DIR / "schema.cedarschema").read_text()
ANNOTATED = '@id("EU-X-1") @effect("DENY") @cite("c") @confidence("H") @remedy("r")\n'
PERMIT = (
    '@id("PLAT-DENY") @effect("DENY") @cite("c") @confidence("H") @remedy("r")\n'
    "permit (principal, action, resource);\n"
)


def test_every_rule_is_in_the_reference_with_its_citation_and_confidence(judge: Judge) -> None:
    for pack in judge.packs:
        for rule in pack.rules:
            head, confidences = REFERENCE_RULES[rule.id]
            assert rule.cite.startswith(head), rule
            assert rule.confidence in confidences, rule


def test_every_rule_of_the_frozen_list_is_in_a_pack(judge: Judge) -> None:
    assert {rule_id for pack in judge.packs for rule_id in pack.rule_ids} == set(REFERENCE_RULES)


@pytest.mark.parametrize("name", ["platform", "ae", "cn", "eu", "in", "jp", "kr", "uk", "us"])
def test_a_pack_says_that_it_is_no_legal_advice_and_keeps_to_its_own_ids(
    judge: Judge, name: str
) -> None:
    # given
    pack = next(pack for pack in judge.packs if pack.name == name)
    # then
    assert "NOT LEGAL ADVICE" in pack.text
    prefix = "PLAT" if name == "platform" else name.upper()
    # UN: a regulation of the United Nations has no pack of its own, its markets carry it.
    assert {rule_id.split("-")[0] for rule_id in pack.rule_ids} <= {prefix, "PLAT", "UN"}


def test_the_digest_is_that_of_the_file(judge: Judge) -> None:
    for pack in judge.packs:
        data = (SHIPPED_PACKS_DIR / f"{pack.name}.cedar").read_bytes()
        assert pack.digest == "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        ("DataClass", DataClass),
        ("Purpose", Purpose),
        ("Chip", Chip),
        ("Group", ItemGroup),
    ],
)
def test_schema_and_program_know_the_same_words(entity: str, words: type[StrEnum]) -> None:
    # given
    found = re.search(rf"entity {entity} enum \[([^\]]*)\]", SCHEMA_TEXT)
    assert found
    # then
    assert set(re.findall(r'"([^"]+)"', found[1])) == {word.value for word in words}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("cac.assessment from CN", True),
        ("bis.license at home", True),
        ("bis.icts_auth from CN for US", True),
        ("personal of EU", True),
        ("ciio of CN", True),
        ("cac.assesment from CN", False),
        ("cac.assessment from China", False),
        ("cac.assessment of CN", False),
        ("cac.assessment from CN for US", False),
        ("personnal of EU", False),
        ("anything", False),
    ],
)
def test_a_pack_compares_with_known_words_only(text: str, known: bool) -> None:
    # given a policy that asks for something in words
    policy = f'forbid (principal, action, resource) unless {{ context.papers.contains("{text}") }};'
    # when it is read, then a word that nobody says is a slip, and no condition that never holds
    if known:
        assert "EU-X-1" in eu_pack(PERMIT + ANNOTATED + policy).rule_ids
    else:
        with pytest.raises(ConfigError, match="does not validate"):
            eu_pack(PERMIT + ANNOTATED + policy)


def test_every_group_has_a_kind() -> None:
    assert set().union(*GROUPS_OF.values()) == set(ItemGroup)


def eu_pack(text: str) -> Pack:
    return parse_pack("eu", text, vocabulary=parse_vocabulary(SCHEMA_TEXT))


def test_a_minimal_pack_parses() -> None:
    assert eu_pack(PERMIT).rule_ids == {"PLAT-DENY"}


@pytest.mark.parametrize(
    "condition",
    [
        'context.orgins.contains(Jurisdiction::"EU")',
        'context.to == Jurisdiction::"EV"',
        'context.classes.contains(DataClass::"persnal")',
        'context.held.contains({type: Approval::"cac.cret", from: context.to, to: context.to})',
        'resource in Group::"modle"',
        "context.cohort.smallest > 3",
        'context.to == "EU"',
    ],
)
def test_a_policy_with_a_misspelt_word_or_an_unguarded_fact_does_not_load(condition: str) -> None:
    with pytest.raises(ConfigError, match="does not validate"):
        eu_pack(
            PERMIT + ANNOTATED + "forbid (principal, action, resource) when { " + condition + " };"
        )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("forbid (principal, action", "law pack eu"),
        ("", "exactly one permit"),
        (PERMIT + PERMIT, "exactly one permit"),
        (PERMIT.replace("PLAT-DENY", "EU-ALL-1"), "exactly one permit"),
        (
            PERMIT + ANNOTATED.replace('@cite("c")', "") + "forbid(principal,action,resource);",
            "@cite",
        ),
        (
            PERMIT
            + ANNOTATED.replace('@cite("c")', '@cite("c") @conflct("x")')
            + "forbid(principal,action,resource);",
            "conflct",
        ),
        (
            PERMIT + ANNOTATED.replace('"r"', '" "') + "forbid(principal,action,resource);",
            "@remedy",
        ),
        (
            PERMIT + ANNOTATED.replace("EU-X-1", "eu x") + "forbid(principal,action,resource);",
            "eu x",
        ),
        (
            PERMIT + ANNOTATED.replace('"DENY"', '"HINT"') + "forbid(principal,action,resource);",
            "HINT",
        ),
        (PERMIT + ANNOTATED.replace('"H"', '"HM"') + "forbid(principal,action,resource);", "HM"),
        (PERMIT + ANNOTATED + "forbid(principal == ?principal,action,resource);", "templates"),
    ],
)
def test_a_pack_that_is_not_well_formed_does_not_load(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        eu_pack(text)


@pytest.mark.parametrize("length", [150, 300, 490, 3000])
@pytest.mark.parametrize(
    "condition",
    [
        lambda n: " && ".join(["context.carries_seed"] * n),
        lambda n: "if context.carries_seed then true else " * n + "true",
        lambda n: "+".join(["1"] * n) + " == 1",
        lambda n: "[" * n + "true" + "]" * n + " == 1",
        lambda n: "(" * n + "context.nobody" + ")" * n,
    ],
)
def test_a_policy_that_goes_too_deep_is_an_error_and_no_crash(
    condition: Callable[[int], str], length: int
) -> None:
    # given a policy such as a stranger's log may hold
    text = "forbid (principal, action, resource) when { " + condition(length) + " };"
    # when it is read, then the reader says so, and lives
    with pytest.raises(ConfigError, match="law pack eu"):
        eu_pack(PERMIT + ANNOTATED + text)


def test_a_pack_lists_what_the_agreement_pins(judge: Judge) -> None:
    # given
    us = next(pack for pack in judge.packs if pack.name == "us")
    # then
    require_rules(us, ["US-ICTS-791.303", "US-EAR-744"])
    with pytest.raises(ConfigError, match=r"US-ICTS-791\.330"):
        require_rules(us, ["US-ICTS-791.303", "US-ICTS-791.330"])


def test_a_directory_needs_schema_platform_and_names_of_jurisdictions(tmp_path: Path) -> None:
    # given
    for complaint, name, text in [
        ("schema.cedarschema", None, ""),
        ("platform.cedar", "schema.cedarschema", SCHEMA_TEXT),
        ("law pack china", "china.cedar", PERMIT),
    ]:
        if name is not None:
            (tmp_path / name).write_text(text)
        if complaint.startswith("law"):
            (tmp_path / "platform.cedar").write_text(PERMIT)
        # then
        with pytest.raises(ConfigError, match=complaint):
            load_packs(tmp_path)


def test_a_pack_of_another_spelling_or_encoding_does_not_load(tmp_path: Path) -> None:
    # given
    (tmp_path / "schema.cedarschema").write_text(SCHEMA_TEXT)
    (tmp_path / "platform.cedar").write_text(PERMIT)
    # then
    for name, data in [("EU.cedar", PERMIT.encode()), ("eu.cedar", b"\xff")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError):
            load_packs(tmp_path)
        (tmp_path / name).unlink()


def test_a_region_starts_with_copies_of_the_shipped_packs(judge: Judge, tmp_path: Path) -> None:
    # when
    copy_default_packs(tmp_path)
    # then
    assert [pack.digest for pack in load_packs(tmp_path)] == [pack.digest for pack in judge.packs]


def test_a_region_asks_by_the_schema_of_its_program_and_by_no_other(tmp_path: Path) -> None:
    # given packs whose schema says the same, in other bytes
    copy_default_packs(tmp_path)
    schema = tmp_path / "schema.cedarschema"
    schema.write_text(SCHEMA_TEXT + "// another edition\n")
    # then they do not load: what they would judge, no auditor could judge again
    with pytest.raises(ConfigError, match="expected the schema sha256:"):
        load_packs(tmp_path)


@pytest.mark.parametrize("schema", ["entity", "entity Group; entity Thing;"])
def test_a_schema_that_does_not_fit_does_not_load(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema"):
        parse_vocabulary(schema)
