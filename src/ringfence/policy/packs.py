"""Law packs: Cedar policies with citations, parsed once, strict about every word."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from cedarpy import (
    Entities,
    PolicySet,
    Schema,
    policies_to_json_str,
    validate_policies,
)

from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest, Jurisdiction, jurisdiction
from ringfence.policy.flow import on_flow, split_schema
from ringfence.policy.words import GROUPS_OF, ApprovalType, paper_type, spoken

Effect = Literal["DENY", "APPR", "MEAS", "FLAG"]
Confidence = Literal["H", "M", "L"]

PLATFORM = "platform"
DEFAULT_RULE = "PLAT-DENY"
DIRECTION_RULE = "PLAT-DIRECTION"
SCHEMA = "schema"
SHIPPED_PACKS_DIR = Path(__file__).parent / "packs"
"""The packs that come with the program; a region loads its own copies, which it may tighten."""

_PACK_LIMIT_BYTES = 1 << 20
_RULE_ID = re.compile(r"[A-Z]{2,4}-[A-Z0-9][A-Z0-9.-]{0,40}")
# What can nest in a policy, and what is none of it: Cedar's parser goes down a level for each, and
# far enough down the whole process ends.  The longest policy that is shipped has half as many.
_MOST_NESTING = 500
_NESTING = re.compile(r"&&|\|\||[(\[{.!+*-]|\bif\b")
_ASIDE = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*')
_ANNOTATIONS = ("id", "effect", "cite", "confidence", "remedy")
_MORE_ANNOTATIONS = frozenset({"conflict"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy's annotations, in the codes of the reference's section 0.

    `effect` says what a person must do about it: DENY change the plan, APPR obtain a paper, MEAS
    take a measure, FLAG look at it (PLAT-FLAG: a flag neither permits nor refuses by itself).
    `conflict` names a law that may forbid to obey the rule, and is mostly empty: which of the two
    gives way, no program decides.
    """

    id: str
    effect: Effect
    cite: str
    confidence: Confidence
    remedy: str
    conflict: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vocabulary:
    """The words that packs and questions share: the schema, and each item kind's groups.

    `texts` are those that stand as texts, which the schema cannot check.  `text` is the schema's
    file, `digest` its SHA-256.  `split` is the same schema as policies are asked by it (`flow`).
    """

    text: str
    digest: Digest
    schema: Schema
    split: Schema
    items: Entities
    texts: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """One parsed pack; `digest` is the SHA-256 of its file, as `sha256sum` prints it.

    `rules` are its policies in the order of the file, `policies` the same ones in Cedar's JSON, as
    they are asked (`flow.on_flow`).  `asks_for` are the types of paper that a rule's policies look
    for.  `platform` has no jurisdiction.
    """

    name: str
    jurisdiction: Jurisdiction | None
    digest: Digest
    text: str
    rules: tuple[Rule, ...]
    policies: tuple[dict[str, Any], ...]
    asks_for: Mapping[str, frozenset[ApprovalType]]
    vocabulary: Vocabulary

    @property
    def rule_ids(self) -> frozenset[str]:
        """Ids of every rule in the pack; an agreement pins those that it must hold at least."""
        return frozenset(rule.id for rule in self.rules)

    def rule(self, rule_id: str) -> Rule:
        """The first policy with this id; raises `ConfigError` where there is none."""
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        raise ConfigError(f"law pack {self.name}: expected a rule {rule_id}; restore the pack")


def load_packs(directory: Path) -> tuple[Pack, ...]:
    """Read `schema.cedarschema` and every `*.cedar` file of `directory`, platform first.

    A pack is named by its jurisdiction in lower case (`cn.cedar`) or `platform.cedar`, which must
    be there.  Raises `ConfigError` for another schema than this program's, and for a pack that does
    not parse, does not validate strictly against the schema, lacks an annotation, or has not
    exactly one permit (`PLAT-DENY`).
    """
    schema_path = directory / f"{SCHEMA}.cedarschema"
    schema_text = _read(schema_path)
    if (found := _sha256(schema_text)) != shipped_schema():
        # A region may tighten its packs, and not change the words: an auditor has only these.
        raise ConfigError(
            f"{schema_path}: expected the schema {shipped_schema()}, by which this program asks, "
            f"got {found}; restore it"
        )
    paths = sorted(directory.glob("*.cedar"), key=lambda path: (path.stem != PLATFORM, path.stem))
    if not paths or paths[0].stem != PLATFORM:
        raise ConfigError(f"{directory}: expected {PLATFORM}.cedar; restore the packs")
    return _parse_all(schema_text, tuple((path.stem, _read(path)) for path in paths))


@functools.lru_cache(maxsize=4)
def _parse_all(schema_text: str, texts: tuple[tuple[str, str], ...]) -> tuple[Pack, ...]:
    """Kept by content: regions that hold the same packs share one parse."""
    vocabulary = parse_vocabulary(schema_text)
    return tuple(parse_pack(name, text, vocabulary=vocabulary) for name, text in texts)


def copy_default_packs(directory: Path) -> None:
    """Write the schema and packs that come with the program into an existing `directory`."""
    for path in sorted(SHIPPED_PACKS_DIR.glob("*.cedar*")):
        (directory / path.name).write_bytes(path.read_bytes())


def shipped_schema() -> Digest:
    """Digest of the schema that this program puts its questions by."""
    return _sha256(_read(SHIPPED_PACKS_DIR / f"{SCHEMA}.cedarschema"))


def parse_vocabulary(schema_text: str) -> Vocabulary:
    """Parse the schema; raises `ConfigError` when it is none, or knows no item groups."""
    try:
        schema = Schema.from_str(schema_text)
        split = split_schema(schema)
        items = Entities.from_json_str(_items_json(), split)
    except ValueError as error:
        raise ConfigError(f"law packs' schema: {error}; restore the schema") from error
    places = re.search(r"entity Jurisdiction enum \[([^\]]*)\]", schema_text)
    if places is None:
        raise ConfigError("law packs' schema: expected an enumeration of jurisdictions; restore it")
    return Vocabulary(
        text=schema_text,
        digest=_sha256(schema_text),
        schema=schema,
        split=split,
        items=items,
        texts=spoken(re.findall(r'"([A-Z]{2})"', places[1])),
    )


def parse_pack(name: str, text: str, *, vocabulary: Vocabulary) -> Pack:
    """Parse and validate one pack; raises `ConfigError` as `load_packs` does."""
    try:
        return _parse_pack(name, text, vocabulary)
    except (ValueError, RecursionError) as error:
        # Deeper than Cedar's JSON, or than our own reading of it, goes.
        raise ConfigError(f"law pack {name}: {error}; split the policy") from error


def _parse_pack(name: str, text: str, vocabulary: Vocabulary) -> Pack:
    policies = _parse(name, text)
    _validate(name, text, vocabulary.schema)
    if unknown := sorted(_texts(policies) - vocabulary.texts):
        raise ConfigError(
            f"law pack {name} does not validate: expected words such as 'cac.assessment from CN', "
            f"got {unknown[:3]}; correct the policy"
        )
    rules = tuple(_rule(name, policy["annotations"]) for policy in policies)
    permits = [
        rule.id
        for rule, policy in zip(rules, policies, strict=True)
        if policy["effect"] == "permit"
    ]
    if permits != [DEFAULT_RULE]:
        raise ConfigError(
            f"law pack {name}: expected exactly one permit, {DEFAULT_RULE}; got {permits}"
        )
    asked = tuple(
        {**policy, "conditions": on_flow(policy["conditions"], f"law pack {name}: rule {rule.id}")}
        for rule, policy in zip(rules, policies, strict=True)
    )
    _validate(name, str(policy_set(dict(enumerate(asked)))), vocabulary.split)
    return Pack(
        name=name,
        jurisdiction=_jurisdiction(name),
        digest=_sha256(text),
        text=text,
        rules=rules,
        policies=asked,
        asks_for=_asked_for(rules, policies),
        vocabulary=vocabulary,
    )


def _asked_for(
    rules: tuple[Rule, ...], policies: list[dict[str, Any]]
) -> Mapping[str, frozenset[ApprovalType]]:
    found: dict[str, frozenset[ApprovalType]] = {}
    for rule, policy in zip(rules, policies, strict=True):
        types = {type_ for text in _texts(policy) if (type_ := paper_type(text)) is not None}
        found[rule.id] = found.get(rule.id, frozenset()) | types
    return found


def policy_set(policies: Mapping[Any, object]) -> PolicySet:
    """Policies in Cedar's JSON, by ids, as Cedar asks them."""
    named = {str(id_): policy for id_, policy in policies.items()}
    return PolicySet.from_json_str(
        json.dumps({"templates": {}, "staticPolicies": named, "templateLinks": []})
    )


def _validate(name: str, text: str, schema: Schema) -> None:
    validation = validate_policies(text, schema)
    if not validation.validation_passed:
        found = "; ".join(str(error) for error in validation.errors)
        raise ConfigError(f"law pack {name} does not validate: {found}; correct the policy")


def _texts(value: object) -> frozenset[str]:
    """Every text that policies compare with, wherever it stands; annotations are no comparison."""
    found: set[str] = set()
    rest: Iterator[object]
    if isinstance(value, dict):
        literal = value.get("Value")
        if isinstance(literal, str):
            found.add(literal)
        rest = (part for key, part in value.items() if key != "annotations")
    elif isinstance(value, list):
        rest = iter(value)
    else:
        return frozenset()
    return frozenset(found).union(*map(_texts, rest))


def _parse(name: str, text: str) -> list[dict[str, Any]]:
    """The policies of a text as JSON, in their order."""
    for policy in _ASIDE.sub(" ", text).split(";"):
        nesting = len(_NESTING.findall(policy))
        if nesting > _MOST_NESTING:
            raise ConfigError(
                f"law pack {name}: expected at most {_MOST_NESTING} brackets and operators in a "
                f"policy, got {nesting}; split the policy"
            )
    try:
        parsed = json.loads(policies_to_json_str(text))
    except ValueError as error:
        raise ConfigError(f"law pack {name}: {error}; correct the policy") from error
    if parsed["templates"]:
        raise ConfigError(f"law pack {name}: expected no templates; write each policy out")
    return [policy for _, policy in sorted(parsed["staticPolicies"].items(), key=_place)]


def require_rules(pack: Pack, ids: Collection[str]) -> None:
    """Raise `ConfigError` unless `pack` holds every rule that the agreement pins for it."""
    missing = sorted(set(ids) - pack.rule_ids)
    if missing:
        raise ConfigError(
            f"law pack {pack.name} ({pack.digest}): the agreement asks for rules it lacks: "
            f"{', '.join(missing)}; restore them, a region may only tighten its pack"
        )


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; restore the packs") from error
    if len(data) > _PACK_LIMIT_BYTES:
        raise ConfigError(f"{path}: expected at most {_PACK_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8; {error.reason}") from error


def _rule(pack: str, annotations: Mapping[str, str]) -> Rule:
    missing = [name for name in _ANNOTATIONS if not (annotations.get(name) or "").strip()]
    if missing:
        raise ConfigError(
            f"law pack {pack}: policy {annotations.get('id', 'without @id')} lacks "
            f"{', '.join('@' + name for name in missing)}; every rule is cited and has a cure"
        )
    if unknown := sorted(annotations.keys() - {*_ANNOTATIONS, *_MORE_ANNOTATIONS}):
        raise ConfigError(
            f"law pack {pack}: policy {annotations['id']}: expected the annotations "
            f"{', '.join((*_ANNOTATIONS, *sorted(_MORE_ANNOTATIONS)))}; got {', '.join(unknown)}"
        )
    if not _RULE_ID.fullmatch(annotations["id"]):
        raise ConfigError(
            f"law pack {pack}: expected a rule id such as 'CN-DSL-31'; got {annotations['id']!r}"
        )
    effect, confidence = annotations["effect"], annotations["confidence"]
    if effect not in get_args(Effect) or confidence not in get_args(Confidence):
        raise ConfigError(
            f"law pack {pack}: rule {annotations['id']}: expected @effect of {get_args(Effect)} "
            f"and @confidence of {get_args(Confidence)}; got {effect!r} and {confidence!r}"
        )
    return Rule(
        id=annotations["id"],
        effect=cast("Effect", effect),
        cite=annotations["cite"],
        confidence=cast("Confidence", confidence),
        remedy=annotations["remedy"],
        conflict=annotations.get("conflict") or "",
    )


def _place(numbered: tuple[str, object]) -> int:
    # Cedar numbers policies by their place in the text: policy0, policy1, ...
    return int(numbered[0].removeprefix("policy"))


def _jurisdiction(name: str) -> Jurisdiction | None:
    if name == PLATFORM:
        return None
    try:
        found = jurisdiction(name.upper())
    except FormatError as error:
        raise ConfigError(f"law pack {name}: {error}; name the file after it") from error
    if name != found.lower():
        raise ConfigError(f"law pack {name}: expected the file name {found.lower()}.cedar")
    return found


def _sha256(text: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def _items_json() -> str:
    return json.dumps(
        [
            {
                "uid": {"type": "Item", "id": kind},
                "attrs": {},
                "parents": [{"type": "Group", "id": group} for group in sorted(groups)],
            }
            for kind, groups in GROUPS_OF.items()
        ]
    )
