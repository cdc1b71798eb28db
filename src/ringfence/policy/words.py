"""The closed vocabularies of the law packs; `packs/schema.cedarschema` lists the same words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum


class Action(StrEnum):
    """What a question asks leave for; `export`, `import` and `disclose` cross a border."""

    TRAIN = "train"
    EXPORT = "export"
    IMPORT = "import"
    MERGE = "merge"
    DEPLOY = "deploy"
    DISCLOSE = "disclose"


CROSSINGS = frozenset({Action.EXPORT, Action.IMPORT, Action.DISCLOSE})
"""Both halves of one crossing meet the same rules, so that neither end can leave one out."""


class ItemKind(StrEnum):
    """Kinds of item (rows of the reference's section 7); artifacts are some of them."""

    RAW = "raw"
    LABELS = "labels"
    EMBEDDINGS = "embeddings"
    EXAMPLE_GRADIENTS = "example_gradients"
    UPDATE = "update"
    CANDIDATE = "candidate"
    RELEASE = "release"
    SNAPSHOT = "snapshot"
    ADAPTER = "adapter"
    INFERENCE_MODEL = "inference_model"
    ARCHITECTURE = "architecture"
    CODE = "code"
    METRICS = "metrics"
    MECHANISM = "mechanism"
    CHECKPOINT = "checkpoint"
    APPROVAL = "approval"
    EVIDENCE = "evidence"
    LOGITS = "logits"


class ItemGroup(StrEnum):
    """Rows that the packs treat alike; `derived` is all that inherits the classes of its data."""

    PER_SAMPLE = "per_sample"
    LABELS = "labels"
    MODEL = "model"
    TECHNOLOGY = "technology"
    STATISTICS = "statistics"
    MECHANISM = "mechanism"
    CONTROL = "control"
    CONTENTS = "contents"
    LOGITS = "logits"
    DERIVED = "derived"


_MODEL = frozenset({ItemGroup.MODEL, ItemGroup.DERIVED})
_PER_SAMPLE = frozenset({ItemGroup.PER_SAMPLE, ItemGroup.DERIVED})

GROUPS_OF: dict[ItemKind, frozenset[ItemGroup]] = {
    # Rows 1, 3 and 4: raw data and what can be turned back into them; what is asked of anything
    # made of data is asked of the data, too, so that a refusal names it.
    ItemKind.RAW: _PER_SAMPLE,
    ItemKind.EMBEDDINGS: _PER_SAMPLE,
    ItemKind.EXAMPLE_GRADIENTS: _PER_SAMPLE,
    # Row 2.
    ItemKind.LABELS: frozenset({ItemGroup.LABELS, ItemGroup.DERIVED}),
    # Rows 5 to 8: whatever was computed from training data and can be merged or run.
    ItemKind.UPDATE: _MODEL,
    ItemKind.CANDIDATE: _MODEL,
    ItemKind.RELEASE: _MODEL,
    ItemKind.SNAPSHOT: _MODEL,
    ItemKind.ADAPTER: _MODEL,
    ItemKind.INFERENCE_MODEL: _MODEL,
    # Rows 9 and 10.
    ItemKind.ARCHITECTURE: frozenset({ItemGroup.TECHNOLOGY}),
    ItemKind.CODE: frozenset({ItemGroup.TECHNOLOGY}),
    # Rows 11 and 12.
    ItemKind.METRICS: frozenset({ItemGroup.STATISTICS}),
    ItemKind.MECHANISM: frozenset({ItemGroup.MECHANISM}),
    # Row 13: digests are signed words about crossings; contents are what they speak of.
    ItemKind.CHECKPOINT: frozenset({ItemGroup.CONTROL}),
    ItemKind.APPROVAL: frozenset({ItemGroup.CONTROL}),
    ItemKind.EVIDENCE: frozenset({ItemGroup.CONTENTS}),
    # Row 14.
    ItemKind.LOGITS: frozenset({ItemGroup.LOGITS, ItemGroup.DERIVED}),
}


class DataClass(StrEnum):
    """Legal classes of data.

    `raw` and `per_sample` describe the item itself; the others are inherited from the training data
    of the whole lineage (PLAT-DERIVED).  `biometric` are enrolled templates (US-DOJ-202.204),
    `government` data about listed places and people (US-DOJ-202.222).
    """

    PERSONAL = "personal"
    SENSITIVE = "sensitive"
    IMPORTANT = "important"
    GEOGRAPHIC = "geographic"
    BIOMETRIC = "biometric"
    GOVERNMENT = "government"
    PER_SAMPLE = "per_sample"
    RAW = "raw"


class Purpose(StrEnum):
    """What the item is for; an approval names exactly one."""

    CIVIL_DRIVING = "civil_driving"
    FOREIGN_AUTHORITY = "foreign_authority"
    MILITARY = "military"
    PUBLIC_SERVICE = "public_service"


class Trait(StrEnum):
    """What the agreement says of an operator that the law asks about."""

    CIIO = "ciio"
    PUBLIC_BODY = "public_body"
    FTZ = "ftz"
    US_PERSON = "us_person"
    COVERED_PERSON = "covered_person"


class Chip(StrEnum):
    """Export-control class of the most restricted chip that took part (reference, section 6).

    INVARIANT: from the least to the most restricted; `policy.chips.most_restricted` reads it so.
    Whatever a pack forbids for one class it forbids for all behind it.
    """

    UNCONTROLLED = "uncontrolled"
    # Not for datacentres, but within the numbers: a recorded notification or licence in China.
    NOTIFIED_3A090 = "3a090_notified"
    # Within the numbers of US-EAR-H200: a licence is looked at case by case.
    H200_3A090 = "3a090_h200"
    CONTROLLED_3A090 = "3a090"
    # Not in the table, or not attested: treated as 3A090.a.
    UNKNOWN = "unknown"
    # US-EAR-GP10 refuses the run and its outputs, which no licence for a place cures.
    PRC_3A090 = "prc_3a090"


class ApprovalType(StrEnum):
    """Papers that the packs ask for: artefacts of the reference's section 5, and its measures.

    A measure, too, is a paper: counsel signs that it was taken, for which flow and until when.
    """

    CAC_ASSESSMENT = "cac.assessment"
    CAC_SCC = "cac.scc"
    CAC_CERT = "cac.cert"
    FTZ_CLEARANCE = "ftz.clearance"
    MNR_ENTRUSTMENT = "mnr.entrustment"
    MNR_OUTBOUND = "mnr.outbound"
    CN_DERIVED_DETERMINATION = "cn.derived_determination"
    CN_TECH_EXPORT = "cn.tech_export"
    CN_OTA_FILING = "cn.ota_filing"
    CN_FOREIGN_AUTHORITY_APPROVAL = "cn.foreign_authority_approval"
    CN_MLPS = "cn.mlps"
    CN_IMPORTANT_DUTIES = "cn.important_duties"
    CN_LEGAL_BASIS = "cn.legal_basis"
    CN_NOTICE_CONSENT = "cn.notice_consent"
    CN_PIPIA = "cn.pipia"
    CN_ANONYMISER_REPORT = "cn.anonymiser_report"
    CN_EXPORT_LOG = "cn.export_log"
    BIS_CLASSIFICATION = "bis.classification"
    BIS_ENC = "bis.enc"
    BIS_LICENSE = "bis.license"
    BIS_ICTS_AUTH = "bis.icts_auth"
    BIS_DOC = "bis.doc"
    BIS_PUBLICATION = "bis.publication"
    BIS_LEGACY = "bis.legacy"
    DOJ_DSP_PROGRAM = "doj.dsp_program"
    DOJ_ONWARD_CLAUSE = "doj.onward_clause"
    US_STATE_NOTICE = "us.state_notice"
    DPF_CERT = "dpf_cert"
    SCC_ID = "scc_id"
    TIA_ID = "tia_id"
    BCR_ID = "bcr_id"
    EDPB_ANONYMITY = "edpb.anonymity"
    EU_DUAL_USE_CLASS = "eu.dual_use_class"
    TYPE_APPROVAL_ID = "type_approval_id"
    LEGAL_BASIS_ID = "legal_basis_id"
    DPIA_ID = "dpia_id"
    USER_CONTRACT_ID = "user_contract_id"
    JP_BASIS_ID = "jp.basis_id"
    JP_CLASS = "jp.class"
    KR_BASIS_ID = "kr.basis_id"
    UK_IDTA = "uk.idta"
    AE_BASIS_ID = "ae.basis_id"
    PLAT_FLAG_REVIEW = "plat.flag_review"
    PLAT_DIRECTION = "plat.direction"


_PAPER = re.compile(r"([a-z0-9._]+) (?:from [A-Z]{2}(?: for [A-Z]{2})?|at home)")

FOR_THE_MARKET = frozenset({ApprovalType.BIS_ICTS_AUTH, ApprovalType.BIS_LEGACY})
"""Judged against the lineage's market, wherever the item is on its way there."""


def paper_from(type_: ApprovalType, origin: str) -> str:
    """A paper for `origin`'s data on their way to the recipient's place."""
    return f"{type_} from {origin}"


def at_home(type_: ApprovalType) -> str:
    """A paper from the recipient's place to itself."""
    return f"{type_} at home"


def for_market(type_: ApprovalType, origin: str, market: str) -> str:
    """A paper for `origin`'s data in the cars of `market`."""
    return f"{type_} from {origin} for {market}"


def paper_type(text: str) -> ApprovalType | None:
    """The type that one of these texts is about; None for another text."""
    found = _PAPER.fullmatch(text)
    return ApprovalType(found[1]) if found else None


def of(word: DataClass | Trait, origin: str) -> str:
    """A class of the data of `origin`, or a trait of their operators."""
    return f"{word} of {origin}"


def spoken(places: Iterable[str]) -> frozenset[str]:
    """Every text that a pack may compare with, over all jurisdictions of the schema."""
    places = tuple(places)
    return frozenset(
        {at_home(type_) for type_ in ApprovalType}
        | {paper_from(type_, place) for type_ in ApprovalType for place in places}
        | {for_market(t, place, to) for t in FOR_THE_MARKET for place in places for to in places}
        | {of(word, place) for words in (DataClass, Trait) for word in words for place in places}
    )
