"""Who must sign a paper: roles from the agreement, and different people for different roles."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ringfence.core.agreement import Agreement
from ringfence.core.errors import ConfigError
from ringfence.core.terms import COUNSEL, Approver
from ringfence.policy.words import ApprovalType


def roles_needed(agreement: Agreement, type_: ApprovalType) -> tuple[str, ...]:
    """The roles that must all have signed a paper of `type_`, sorted; counsel where no rule says.

    Source: the agreement's `[[two_person]]`, and `[flags] role` for reviews of flags (PLAT-FLAG).
    """
    terms = agreement.terms
    roles = {role for rule in terms.two_person if type_ in rule.types for role in rule.roles}
    if type_ is ApprovalType.PLAT_FLAG_REVIEW:
        roles.add(terms.flags.role)
    return tuple(sorted(roles or {COUNSEL}))


def approvers_of(agreement: Agreement, operator: str) -> tuple[Approver, ...]:
    """Everybody who may sign for `operator`, which may operate several regions."""
    return tuple(
        approver
        for party in agreement.terms.regions
        if party.operator == operator
        for approver in party.signatories()
    )


def missing_roles(
    agreement: Agreement, type_: ApprovalType, operator: str, signers: Collection[bytes]
) -> tuple[str, ...]:
    """The roles that still have to sign a paper that `operator` holds, given who has.

    INVARIANT: every role is filled by a person of its own; no key and no person fills two.
    """
    people = _people(approvers_of(agreement, operator), signers)
    filled: dict[str, int] = {}  # role: number of the person who fills it

    def fill(role: str, tried: set[int]) -> bool:
        """Find `role` a person, moving others to another role where they have one."""
        for number, roles in enumerate(people):
            if role not in roles or number in tried:
                continue
            tried.add(number)
            other = next((name for name, person in filled.items() if person == number), None)
            if other is None or fill(other, tried):
                filled[role] = number
                return True
        return False

    return tuple(role for role in roles_needed(agreement, type_) if not fill(role, set()))


def check_types(agreement: Agreement) -> None:
    """Raise `ConfigError` when a two-person rule names no type of paper: it would bind nobody."""
    known = {str(type_) for type_ in ApprovalType}
    for number, rule in enumerate(agreement.terms.two_person):
        if unknown := sorted(set(rule.types) - known):
            raise ConfigError(
                f"two_person[{number}].types: {unknown} are no types of papers; expected some of "
                f"{', '.join(sorted(known))}"
            )


def _people(approvers: Iterable[Approver], signers: Collection[bytes]) -> list[set[str]]:
    """The roles of each person who signed; keys under one name are one person's."""
    people: list[tuple[set[object], set[str]]] = []
    for approver in approvers:
        key = approver.public_key()
        marks: set[object] = {key, approver.person} if approver.person else {key}
        roles = {approver.role} if key in signers else set()
        same = [person for person in people if person[0] & marks]
        for person in same:
            people.remove(person)
            marks |= person[0]
            roles |= person[1]
        people.append((marks, roles))
    return [roles for _, roles in people if roles]
