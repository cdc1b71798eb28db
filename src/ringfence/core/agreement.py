"""The federation agreement: the exact terms that every region signs by their hash.

The agreement is one TOML file, `federation.toml`.  Its digest is the SHA-256 of the file's bytes:
two regions that hold files differing in one byte hold different agreements and do not start.

    agreement = parse_agreement(Path("federation.toml").read_bytes())
    agreement.digest, agreement.region("cn").jurisdiction, agreement.lineage("world").quorum
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import math
import re
from collections.abc import Iterator
from datetime import date

import msgspec

from ringfence.core import canonical, ids
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest, Jurisdiction, LineageId, RegionId
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import ChipLot, Lineage, Metric, Party, Terms, TwoPerson

_ROLE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_ED25519_BYTES = 32

AGREEMENT_LIMIT_BYTES = 8 * 1024 * 1024
"""Longest agreement; a layout of twenty thousand tensors fits."""

_TEXT_LIMIT = 200


class Agreement:
    """Parsed and checked terms together with their digest; immutable by use."""

    def __init__(self, *, terms: Terms, digest: Digest) -> None:
        self.terms = terms
        self.digest = digest
        self._regions = {region.id: region for region in terms.regions}
        self._lineages = {lineage.id: lineage for lineage in terms.lineages}
        placement = terms.modules
        specs = tuple(
            TensorSpec(name=t.name, shape=t.shape, dtype=t.dtype, module=t.module)
            for t in terms.tensors
        )
        self.layout = Layout(specs=specs)
        self.update_layout = Layout(
            specs=tuple(s for s in specs if placement[s.module] == "federated")
        )
        self.model_layout = Layout(
            specs=tuple(s for s in specs if placement[s.module] in ("federated", "frozen"))
        )

    @functools.cached_property
    def scope(self) -> Digest:
        """Digest of what the agreement fixes about the flow; approvals name it.

        Another layout, clip bound, codec or placement of modules is another flow, for which an
        approval must be asked anew.
        """
        flow = [
            self.layout.digest,
            self.terms.modules,
            self.terms.clip_l2,
            self.terms.codecs.updates,
            self.terms.codecs.releases,
        ]
        return Digest("sha256:" + hashlib.sha256(canonical.to_bytes(flow)).hexdigest())

    @functools.cached_property
    def planned_operations(self) -> float:
        """The most operations that all rounds of all lineages can take.

        A bound and no count, so that it is known to every region, and before anything runs.
        """
        examples = sum(
            lineage.until_round * self.region(name).examples
            for lineage in self.terms.lineages
            for name in lineage.contributors
        )
        return examples * self.terms.training.operations_per_example

    @property
    def hub(self) -> RegionId:
        return ids.region_id(self.terms.hub.region)

    def region(self, region: str) -> Party:
        if region not in self._regions:
            raise ConfigError(
                f"agreement names no region {region!r}; it has {sorted(self._regions)}"
            )
        return self._regions[region]

    def lineage(self, lineage: str) -> Lineage:
        if lineage not in self._lineages:
            raise ConfigError(
                f"agreement names no lineage {lineage!r}; it has {sorted(self._lineages)}"
            )
        return self._lineages[lineage]

    def regions(self) -> tuple[RegionId, ...]:
        return tuple(ids.region_id(region.id) for region in self.terms.regions)

    def lineages_of(self, region: str) -> tuple[LineageId, ...]:
        """Lineages whose releases `region` receives, in the agreement's order."""
        return tuple(
            ids.lineage_id(line.id) for line in self.terms.lineages if region in line.recipients
        )

    def jurisdiction(self, region: str) -> Jurisdiction:
        return ids.jurisdiction(self.region(region).jurisdiction)

    def metric(self, name: str) -> Metric:
        for metric in self.terms.metrics:
            if metric.name == name:
                return metric
        raise ConfigError(f"agreement names no metric {name!r}")


def agreement_digest(data: bytes) -> Digest:
    """SHA-256 of the file's bytes, as they are."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


@functools.lru_cache(maxsize=4)
def parse_agreement(data: bytes) -> Agreement:
    """Parse and check `federation.toml`; kept by content, as regions of one process hold the same.

    Raises: ConfigError when a name or a key is unknown or used twice, a module has no placement, or
    a number cannot hold; FormatError when the bytes are not the TOML that is expected.
    """
    if len(data) > AGREEMENT_LIMIT_BYTES:
        raise FormatError(
            f"agreement: expected at most {AGREEMENT_LIMIT_BYTES} bytes, got {len(data)}"
        )
    try:
        terms = msgspec.toml.decode(data, type=Terms, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"agreement: {error}") from error
    _check(terms)
    return Agreement(terms=terms, digest=agreement_digest(data))


def _check(terms: Terms) -> None:
    _check_finite(msgspec.to_builtins(terms), "agreement")
    _check_keys(terms)
    _check_approvers(terms)
    regions = _unique([region.id for region in terms.regions], "regions")
    lineages = _unique([lineage.id for lineage in terms.lineages], "lineages")
    _unique([region.trust_domain for region in terms.regions], "trust domains")
    metrics = _unique([metric.name for metric in terms.metrics], "metrics")
    _unique([pack.name for pack in terms.packs], "packs")
    if terms.predecessor:
        ids.digest(terms.predecessor)
    if terms.hub.region not in regions:
        raise ConfigError(f"hub.region: {terms.hub.region!r} is not one of {sorted(regions)}")
    terms.hub.host_and_port()
    for region in terms.regions:
        ids.region_id(region.id)
        ids.jurisdiction(region.jurisdiction)
        ids.jurisdiction(region.parent)
        _check_hardware(region)
    for tensor in terms.tensors:
        if tensor.module not in terms.modules:
            raise ConfigError(
                f"tensor {tensor.name!r}: module {tensor.module!r} has no placement in [modules]"
            )
        if terms.modules[tensor.module] != "regional" and tensor.dtype != "F32":
            raise ConfigError(
                f"tensor {tensor.name!r}: expected dtype F32 in a module that crosses, "
                f"got {tensor.dtype!r}; place its module as 'regional' or change the dtype"
            )
    if not any(terms.modules[tensor.module] == "federated" for tensor in terms.tensors):
        raise ConfigError("agreement: no tensor belongs to a federated module; nothing would train")
    for metric in terms.metrics:
        if not metric.minimum < metric.maximum:
            raise ConfigError(f"metric {metric.name!r}: minimum must be below maximum")
    for lineage in terms.lineages:
        _check_lineage(lineage, regions=regions, lineages=lineages, metrics=metrics)
        _check_contributors(lineage, terms)
        barred = {r.id for r in terms.regions if r.jurisdiction in lineage.bars}
        if wrong := barred.intersection(lineage.contributors):
            raise ConfigError(
                f"lineage {lineage.id!r} bars {lineage.bars} but {sorted(wrong)} contribute to it"
            )


def _check_lineage(
    lineage: Lineage, *, regions: set[str], lineages: set[str], metrics: set[str]
) -> None:
    ids.lineage_id(lineage.id)
    ids.digest(lineage.start.model)
    members = _unique(list(lineage.contributors), f"contributors of {lineage.id}")
    recipients = _unique(list(lineage.recipients), f"recipients of {lineage.id}")
    if unknown := (members | recipients) - regions:
        raise ConfigError(f"lineage {lineage.id!r}: {sorted(unknown)} are no regions")
    if not members <= recipients:
        raise ConfigError(f"lineage {lineage.id!r}: every contributor must be a recipient")
    if not lineage.quorum <= len(members):
        raise ConfigError(
            f"lineage {lineage.id!r}: quorum {lineage.quorum} is more than its "
            f"{len(members)} contributors"
        )
    if lineage.start.branch_of and lineage.start.branch_of not in lineages:
        raise ConfigError(
            f"lineage {lineage.id!r}: branch_of {lineage.start.branch_of!r} is no lineage"
        )
    if lineage.gate is not None and lineage.gate.metric not in metrics:
        raise ConfigError(
            f"lineage {lineage.id!r}: gate.metric {lineage.gate.metric!r} is no metric"
        )
    for code in lineage.bars:
        ids.jurisdiction(code)


def _check_contributors(lineage: Lineage, terms: Terms) -> None:
    """The hub merges and never contributes; whoever does says how much it may count for."""
    if terms.hub.region in lineage.contributors:
        raise ConfigError(
            f"lineage {lineage.id!r}: the hub {terms.hub.region!r} contributes; it would merge its "
            "own update, so let a region of its own train"
        )
    for region in terms.regions:
        if region.id in lineage.contributors and region.examples < 1:
            raise ConfigError(
                f"region {region.id!r} contributes to lineage {lineage.id!r}: expected 'examples', "
                "the most that one update may count for, of at least 1; enter the training count "
                "of the region's catalogue"
            )


def _check_hardware(region: Party) -> None:
    if (region.hardware == "attested") != bool(region.chips):
        raise ConfigError(
            f"region {region.id!r}: expected hardware = 'attested' and [[regions.chips]] together, "
            f"got {region.hardware!r} and {len(region.chips)} entries; list every chip that trains "
            "there, or say 'uncontrolled' or 'unknown'"
        )
    for number, lot in enumerate(region.chips, 1):
        where = f"region {region.id!r}, [[regions.chips]] entry {number}"
        for name in ("model", "licence"):
            text = getattr(lot, name)
            if len(text) > _TEXT_LIMIT or text != text.strip() or not text.isprintable():
                raise ConfigError(
                    f"{where}: expected at most {_TEXT_LIMIT} printable letters in {name}, without "
                    f"spaces around them, got {text[:80]!r}"
                )
        _check_provenance(lot, where)


def _check_provenance(lot: ChipLot, where: str) -> None:
    if not lot.model:
        raise ConfigError(f"{where}: expected a model, such as 'NVIDIA H100 80GB HBM3', got none")
    if lot.bought and not _is_date(lot.bought):
        raise ConfigError(
            f"{where}: expected bought as a date such as '2023-05-17', got {lot.bought[:40]!r}"
        )
    if lot.evidence:
        try:
            ids.digest(lot.evidence)
        except FormatError as error:
            raise ConfigError(f"{where}, evidence: {error}") from error


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_keys(terms: Terms) -> None:
    """Each key speaks for one region and one purpose; else one region could speak for another."""
    owners: dict[bytes, str] = {}
    for region in terms.regions:
        for purpose, key in _keys(region):
            owner = f"regions.{region.id}.{purpose}"
            if key in owners:
                raise ConfigError(f"{owner}: is the key of {owners[key]} too; make a new one")
            owners[key] = owner
    for region in terms.regions:
        for approver in region.signatories():
            if approver.public_key() in owners:
                # A process holds that key; it would approve what it does itself.
                raise ConfigError(
                    f"regions.{region.id}: the key of {approver.role!r} is "
                    f"{owners[approver.public_key()]} too; make one that no process of a region "
                    "reads"
                )


def _check_approvers(terms: Terms) -> None:
    for region in terms.regions:
        rows = [(approver.role, approver.public_key()) for approver in region.signatories()]
        for role, key in rows:
            check_role(role, f"regions.{region.id}.approvers")
            if len(key) != _ED25519_BYTES:
                raise ConfigError(
                    f"regions.{region.id}.approvers: expected a raw Ed25519 key of "
                    f"{_ED25519_BYTES} bytes for {role!r}, got {len(key)} bytes"
                )
        if len(set(rows)) != len(rows):
            raise ConfigError(f"regions.{region.id}.approvers: one key has one role twice")
    check_role(terms.flags.role, "flags.role")
    for number, rule in enumerate(terms.two_person):
        _check_two_person(rule, f"two_person[{number}]")


def _check_two_person(rule: TwoPerson, where: str) -> None:
    _unique(list(rule.types), f"types of {where}")
    if not rule.types or len(_unique(list(rule.roles), f"roles of {where}")) < 2:
        raise ConfigError(
            f"{where}: expected at least one type and two different roles, got types "
            f"{list(rule.types)} and roles {list(rule.roles)}"
        )
    for role in rule.roles:
        check_role(role, where)


def check_role(role: str, where: str) -> None:
    """Raise `ConfigError` unless `role` is the name of one."""
    if not _ROLE.fullmatch(role):
        raise ConfigError(
            f"{where}: expected a role such as 'privacy-officer' (at most 40 small letters, "
            f"digits and hyphens), got {role[:80]!r}"
        )


def _keys(region: Party) -> Iterator[tuple[str, bytes]]:
    yield "root", region.root_der()
    yield "statement_key", region.statement_public_key()
    for purpose, text in (("log_key", region.log_key), ("witness_key", region.witness_key)):
        # C2SP signed-note, "Verifier keys": name+id+base64(algorithm byte, public key).
        key = text.split("+", 2)[-1]
        try:
            yield purpose, base64.b64decode(key, validate=True)[1:]
        except binascii.Error as error:
            raise ConfigError(
                f"regions.{region.id}.{purpose}: expected a C2SP verifier key, got {text[:80]!r}"
            ) from error


def _check_finite(value: object, where: str) -> None:
    """TOML can spell `nan` and `inf`, and a NaN passes every comparison with a bound."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_finite(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_finite(item, f"{where}[{index}]")


def _unique(names: list[str], what: str) -> set[str]:
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigError(f"agreement: {what} named twice: {twice}")
    return set(names)
