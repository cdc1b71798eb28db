"""What the registered owners of an operator say, beside what the agreement says of it."""

from __future__ import annotations

from ringfence.core.errors import Refused
from ringfence.core.terms import Party
from ringfence.crossing.registry import Registry
from ringfence.policy.ownership import ADVERSARIES, ownership_findings


def require_parent(party: Party, registry: Registry) -> None:
    """Raise `Refused` where the registered owners lead elsewhere than the agreement's `parent`.

    Neither is believed: the law asks by the agreement's word, and a wrong one asks the wrong law.
    An operator without any registration has nothing to compare.
    """
    parent = registry.ultimate_parent(party.operator)
    if parent is None or parent.seat == party.parent:
        return
    chain = " < ".join(parent.chain)
    found = f"{parent.doubt}, which counts as {parent.seat}" if parent.doubt else parent.seat
    raise Refused(
        stage="law",
        reason="ownership",
        detail=f"region {party.id}: the agreement has the ultimate parent of its operator in "
        f"{party.parent}, the registered owners lead to {found} ({chain}); correct the owners in "
        f'facts.toml, or agree on parent = "{parent.seat}"',
    )


def owners_of(party: Party, registry: Registry) -> tuple[str, ...]:
    """What a person should know of the owners of a region's operator, a line each; mostly nothing.

    That an operator of China or Russia is one is left out: the agreement says it.
    """
    plain = not ADVERSARIES.isdisjoint((party.jurisdiction, party.parent))
    lines = ownership_findings(registry.owners, party.operator, adversary=not plain)
    return tuple(f"{party.operator}: {line}" for line in lines)
