"""SPIFFE ids: how a process is named in its certificate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ringfence.core.errors import FormatError

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_TRUST_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})+")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeId:
    """`spiffe://<trust domain>/<role>`, such as `spiffe://cn.example/gateway`.

    Narrower than the standard (SPIFFE-ID §2): lower-case dotted trust domain, one path segment.
    """

    trust_domain: str
    role: str

    def __post_init__(self) -> None:
        parse_trust_domain(self.trust_domain)
        if not _ROLE.fullmatch(self.role):
            raise FormatError(f"expected a role, such as 'gateway'; got {self.role[:80]!r}")

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/{self.role}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """Parse the one form that `SpiffeId.uri` writes.

    Ports, user names, wildcards, queries, fragments, escapes, upper case and further path segments
    all raise `FormatError`.
    """
    domain, slash, role = text.removeprefix(_SCHEME).partition("/")
    if not text.startswith(_SCHEME) or not slash:
        raise FormatError(
            f"expected a name such as 'spiffe://cn.example/gateway'; got {text[:80]!r}"
        )
    return SpiffeId(trust_domain=domain, role=role)


def parse_trust_domain(text: str) -> str:
    """Parse a trust domain: dotted lower-case labels, at most 253 characters."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise FormatError(f"expected a trust domain, such as 'cn.example'; got {text[:80]!r}")
    return text
