"""Five attempts to get something over the border that must not cross; each must be refused.

Two are made by a site's script, three by whoever holds a region's keys and dials the hub itself.
Each is looked for in the victim's log afterwards: what nobody recorded, or refused for another
reason than the one that the attack is about, counts as not refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from ringfence.cli.demo.plan import US_MARKET, WORLD
from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import encode
from ringfence.config import Home
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Input, Payload, VerdictNote, payload_of, statement_digest
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.clock import system_clock, to_rfc3339
from ringfence.core.errors import Error
from ringfence.core.ids import LineageId
from ringfence.core.tensors import Segment, Vector
from ringfence.crossing.decide import Draft, declare
from ringfence.crossing.entries import Entry
from ringfence.crossing.statements import seal_declaration
from ringfence.ledger.reader import LogReader
from ringfence.net.border_client import BorderClient
from ringfence.net.border_service import OwnLeaf
from ringfence.opening import open_law
from ringfence.trust.certificates import BACKDATE_S, LEAF_LIFETIME_S, create_request
from ringfence.trust.encoding import from_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import load_ed25519, load_p256, read_passphrase
from ringfence.trust.names import SpiffeId
from ringfence.trust.tls import client_context, load_leaf, peer_verifier
from ringfence.wiring import COORDINATOR, GATEWAY, anchors_of

_RECORDED_WITHIN_S = 10.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What was tried and what came of it; `recorded` says whose log holds the refusal."""

    name: str
    refused: bool
    rule: str
    detail: str
    recorded: str

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"recorded": bool(self.recorded), "recorded_in": self.recorded}


def attack_the_border(
    homes: dict[str, Home], agreement: Agreement, *, scratch: Path
) -> Iterator[Attack]:
    """The three attacks by those who hold a region's keys; the hub must be running."""
    hub = homes["hub"]
    yield _attempt(
        "China's update offered to us-market",
        hub,
        counterparty="cn",
        by="US-ICTS-791.303",
        attack=lambda: _offer_to_us_market(homes["cn"], agreement, scratch),
    )
    yield _attempt(
        "one flipped byte in a payload",
        hub,
        counterparty="be",
        by="payload",
        attack=lambda: _flip_a_byte(homes["be"], agreement, scratch),
    )
    yield _attempt(
        "an expired certificate",
        hub,
        counterparty="de",
        by="untrusted-peer",
        attack=lambda: _dial_late(homes["de"], agreement),
    )


def find_refusal(name: str, victim: Home, *, counterparty: str, by: str, since: int) -> Attack:
    """The newest refusal in the victim's log from entry `since` on, as an attack's outcome.

    `by` is the rule, or the reason of one that no rule gave, which must be what refused it.
    """
    others: list[str] = []
    reader = LogReader(victim.log)
    for opening in reversed(list(reader.openings(since, log_size(victim)))):
        entry = Entry.from_bytes(opening.content)
        refusal = entry.refusal
        if refusal is None or entry.counterparty != counterparty:
            continue
        if by not in (*refusal.rules, refusal.reason):
            others.append(refusal.reason)
            continue
        return Attack(
            name=name,
            refused=True,
            rule=", ".join(refusal.rules) or refusal.reason,
            detail=refusal.detail,
            recorded=victim.region,
        )
    detail = f"no refusal by {by} recorded, but {', '.join(others) or 'none'}"
    return Attack(name=name, refused=False, rule="", detail=detail, recorded="")


def log_size(home: Home) -> int:
    """How many entries are durable, checkpointed or not."""
    return LogReader(home.log).durable_size


def _attempt(
    name: str, victim: Home, *, counterparty: str, by: str, attack: Callable[[], None]
) -> Attack:
    since = log_size(victim)
    try:
        attack()
    except Error:
        # Which error the attacker sees is his business; what counts is what the victim recorded,
        # which for a connection comes a moment after it was closed.
        give_up = time.monotonic() + _RECORDED_WITHIN_S
        while True:
            found = find_refusal(name, victim, counterparty=counterparty, by=by, since=since)
            if found.refused or time.monotonic() > give_up:
                return found
            time.sleep(_LOOK_S)
    return Attack(name=name, refused=False, rule="", detail="it went through", recorded="")


def _offer_to_us_market(home: Home, agreement: Agreement, scratch: Path) -> None:
    """China's gateway, its own law switched off, offers an update to a lineage that bars it."""
    with _line(home, agreement) as border:
        # China receives no view of us-market; the round and parent are what an insider would know.
        round_, parent = _next_round(agreement, US_MARKET)
        payload, _ = _forge_payload(agreement, scratch)
        border.offer(_forge(home, agreement, US_MARKET, round_, parent, payload))


def _flip_a_byte(home: Home, agreement: Agreement, scratch: Path) -> None:
    """A courier changes one bit of an update that Belgium has rightly signed."""
    with _line(home, agreement) as border:
        view = border.lineage(LineageId(WORLD), seen=0, wait_s=0)
        payload, path = _forge_payload(agreement, scratch)
        envelope = _forge(home, agreement, WORLD, view.round, view.parent, payload)
        border.offer(envelope)
        with path.open("r+b") as file:
            file.seek(min(payload.size_bytes, CHUNK_BYTES) - 1)
            last = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([last[0] ^ 1]))
        border.upload(statement_digest(envelope), path, chunk=0)


def _dial_late(home: Home, agreement: Agreement) -> None:
    """Germany's gateway dials with the leaf of yesterday."""
    with _line(home, agreement, issued_ago_s=2 * LEAF_LIFETIME_S) as border:
        border.agreement()


def _next_round(agreement: Agreement, lineage: str) -> tuple[int, str]:
    terms = agreement.lineage(lineage)
    return terms.until_round, terms.start.model


def _forge_payload(agreement: Agreement, scratch: Path) -> tuple[Payload, Path]:
    """A well-formed payload of the agreed layout: every value a thousandth."""
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / "forged.safetensors"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return payload_of(encode(form, _thousandths, fd, seed=bytes(32))), path
    finally:
        os.close(fd)


def _thousandths(_segment: Segment, values_P: Vector) -> None:
    values_P[:] = 0.001


def _forge(
    home: Home, agreement: Agreement, lineage: str, round_: int, parent: str, payload: Payload
) -> bytes:
    """A statement under the region's real key, with a verdict that nobody gave."""
    law = open_law(home, agreement)
    tags = {agreement.jurisdiction(name) for name in agreement.lineage(lineage).contributors}
    draft = Draft(
        kind="update",
        lineage=lineage,
        round=round_,
        parent=parent,
        model="",
        layout=agreement.update_layout.digest,
        codec=agreement.terms.codecs.updates,
        payload=payload,
        inputs=(Input(role="base", digest=parent),),
        jurisdictions=tuple(sorted({*tags, agreement.jurisdiction(home.region)})),
        examples=agreement.region(home.region).examples,
    )
    note = VerdictNote(
        question=statement_digest(b"nobody was asked"),
        packs=(),
        approvals=(),
        valid_until=to_rfc3339(system_clock() + 3600),
    )
    declaration = replace(
        declare(law, draft, sender=home.region, recipient=agreement.hub),
        verdict=note,
    )
    passphrase = read_passphrase(home.passphrase_source())
    return seal_declaration(declaration, load_ed25519(home.keys / "statement.key", passphrase))


@contextmanager
def _line(home: Home, agreement: Agreement, *, issued_ago_s: float = 0.0) -> Iterator[BorderClient]:
    """A line to the hub under a leaf that the region's issuer key signs `issued_ago_s` ago."""
    passphrase = read_passphrase(home.passphrase_source())
    authority = Authority(
        signer=load_p256(home.keys / "issuer.key", passphrase),
        certificate=from_pem((home.trust / "issuer.pem").read_bytes(), what="issuer certificate"),
        roles=frozenset({GATEWAY}),
    )
    key = ec.generate_private_key(ec.SECP256R1())
    domain = agreement.region(home.region).trust_domain
    request = create_request(key, identity=SpiffeId(trust_domain=domain, role=GATEWAY))
    anchors = anchors_of(agreement)
    context = client_context(hub=anchors[agreement.hub])
    issued_s = system_clock() - issued_ago_s
    load_leaf(context, chain_pem=issue(request, authority=authority, now_s=issued_s), key=key)
    leaf = OwnLeaf(context=context, not_after_s=system_clock() + BACKDATE_S)
    verify = peer_verifier(
        anchors=anchors, role=COORDINATOR, region=agreement.hub, clock=system_clock
    )
    host, port = agreement.terms.hub.host_and_port()
    with BorderClient(host, port, leaf_source=lambda: leaf, verify=verify) as border:
        yield border
