"""Facts of the flow, which Cedar reads once, and facts of the moment, which it reads each time.

Reading the request is most of what a decision costs, and most of it says what stays for weeks: who
sends what to whom, of whose data, with which papers.  A pack reads every fact as `context.<fact>`.
For Cedar, those of the flow are moved onto an entity, `Facts::"flow"`, which is parsed and checked
once and then kept; the words, their types and what the policies say of them stay the same.
"""

from __future__ import annotations

import re
from typing import Any

from cedarpy import Schema

from ringfence.core.errors import ConfigError

MOMENT = frozenset({"now", "counters", "cohort", "extraction", "affected"})
"""What differs from item to item of one flow; every other fact is the flow's."""

FLOW = {"type": "Facts", "id": "flow"}

_CONTEXT = {"Var": "context"}
_FACTS = re.compile(r"^type Facts = \{\n(.*?)\n\};$", re.MULTILINE | re.DOTALL)


def split_schema(schema: Schema) -> Schema:
    """The schema of the same words, with the facts of the flow on their entity.

    Raises: ConfigError when the schema has no type `Facts` that could be split.
    """
    text = str(schema)  # as Cedar prints it: sorted, without comments, a fact to each line
    facts = _FACTS.search(text)
    if facts is None:
        raise ConfigError("law packs' schema: expected a type Facts; restore the schema")
    lines: dict[bool, list[str]] = {True: [], False: []}
    for line in re.split(r",\n(?=  \w)", facts[1]):  # what is nested stands further in
        lines[re.split(r"\W", line.strip(), maxsplit=1)[0] in MOMENT].append(line)
    flow, moment = ("{\n" + ",\n".join(lines[of_moment]) + "\n}" for of_moment in (False, True))
    split = text.replace(facts[0], f"entity Facts = {flow};")
    return Schema.from_str(split.replace("context: Facts", f"context: {moment}"))


def on_flow(conditions: Any, rule: str) -> Any:
    """Conditions of a policy, in Cedar's JSON, that read the facts of the flow from their entity.

    Raises: ConfigError, naming `rule`, when one reads the context as a whole, which is split.
    """
    if isinstance(conditions, list):
        return [on_flow(part, rule) for part in conditions]
    if not isinstance(conditions, dict):
        return conditions
    if conditions == _CONTEXT:
        raise ConfigError(f"{rule}: expected context.<fact>, got the whole context; name the facts")
    for operator in (".", "has"):
        access = conditions.get(operator)
        if isinstance(access, dict) and access.get("left") == _CONTEXT:
            if access["attr"] in MOMENT:
                return conditions
            return {operator: {**access, "left": {"Value": {"__entity": FLOW}}}}
    return {key: on_flow(part, rule) for key, part in conditions.items()}


def reads_moment(conditions: Any) -> bool:
    """Whether conditions as `on_flow` gives them look at any fact of the moment."""
    if isinstance(conditions, list):
        return any(map(reads_moment, conditions))
    if not isinstance(conditions, dict):
        return False
    return conditions == _CONTEXT or any(map(reads_moment, conditions.values()))
