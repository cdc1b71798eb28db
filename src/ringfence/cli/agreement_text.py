"""Writes a federation agreement as commented TOML that a person can read and sign.

`parse_agreement(render(terms).encode()).terms == terms` holds for every agreement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import msgspec

from ringfence.core.terms import Lineage, Terms

_HEAD = """\
# The federation agreement.  Every region signs the SHA-256 of these bytes; a region whose file
# differs in one byte holds another agreement and does not start.
"""


def render(terms: Terms) -> str:
    """The agreement's text, tables in the order in which a person would ask about them."""
    lines = [
        _HEAD,
        _pair("version", terms.version),
        _pair("name", terms.name),
        "# Digest of the agreement that this one succeeds; empty for the first.",
        _pair("predecessor", terms.predecessor),
        "# Longest L2 norm of one region's update, in parameter units; longer ones are cut.",
        _pair("clip_l2", terms.clip_l2),
        "",
        "# The region whose coordinator the others dial.",
        *_table("hub", terms.hub),
        "# How often one region's catalogue may give an update; without noise that is the unit.",
        *_table("budget", terms.budget),
        "# Exact float32, or int8 with a scale a block of 256 and stochastic rounding.",
        *_table("codecs", terms.codecs),
        "# What every region's script is told, by name.",
        *_table("training", terms.training, without=("settings",)),
        *_table("training.settings", terms.training.settings),
        "# Regions: operator, law, and the public keys that speak for each.",
    ]
    for region in terms.regions:
        lines += _table("[regions]", region, without=("chips", "approvers"))
        for lot in region.chips:
            lines += _table("[regions.chips]", lot)
        for approver in region.approvers:
            lines += _table("[regions.approvers]", approver)
    lines.append("# Lineages: lines of releases, and what may be merged into each.")
    for lineage in terms.lineages:
        lines += _lineage(lineage)
    lines.append("# The only numbers that may cross: range, step, least cohort.")
    for metric in terms.metrics:
        lines += _table("[metrics]", metric)
    lines.append(
        "# The least that the pack of each jurisdiction must hold; a region may add to its own."
    )
    for pack in terms.packs:
        lines += _table("[packs]", pack)
    lines.append("# What a flag of a pack holds until this role has looked into it.")
    lines += _table("flags", terms.flags)
    if terms.two_person:
        lines.append("# Papers of these types count once a person of each of these roles signed.")
    for rule in terms.two_person:
        lines += _table("[two_person]", rule)
    lines.append(
        "# federated: trained and merged.  regional: stays at home.\n"
        "# frozen: part of every release, never trained.  withheld: never leaves the hub."
    )
    lines += _table("modules", terms.modules)
    lines.append("# The model: every tensor in order, and the module it belongs to.")
    for tensor in terms.tensors:
        lines += _table("[tensors]", tensor)
    return "\n".join(lines).rstrip() + "\n"


def _lineage(lineage: Lineage) -> Iterable[str]:
    parts = ("start", "outer", "gate", "target")
    yield from _table("[lineages]", lineage, without=parts)
    for part in parts:
        value = getattr(lineage, part)
        if value is not None:
            yield from _table(f"lineages.{part}", value)


def _table(
    name: str, value: msgspec.Struct | Mapping[str, object], *, without: tuple[str, ...] = ()
) -> Iterable[str]:
    fields = msgspec.to_builtins(value)
    yield f"[{name}]"
    for key, item in fields.items():
        if key not in without:
            yield _pair(key, item)
    yield ""


def _pair(key: str, value: object) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # A JSON string, boolean or number is a TOML one (TOML 1.0, "String", "Float").
    return json.dumps(value, ensure_ascii=False)
