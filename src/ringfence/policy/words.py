"""The closed vocabularies of the law packs; `packs/schema.cedarschema` lists the same words."""

from __future__ import annotations

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
    """Kinds of artifact (design glossary)."""

    UPDATE = "update"
    CANDIDATE = "candidate"
    RELEASE = "release"
    SNAPSHOT = "snapshot"
    METRICS = "metrics"
    ARCHITECTURE = "architecture"
    LOGITS = "logits"
    CHECKPOINT = "checkpoint"
    APPROVAL = "approval"
    EVIDENCE = "evidence"


class ItemGroup(StrEnum):
    """Rows of the reference's section 7 that the packs treat alike."""

    MODEL = "model"
    TECHNOLOGY = "technology"
    STATISTICS = "statistics"
    CONTROL = "control"


GROUP_OF: dict[ItemKind, ItemGroup] = {
    # Rows 5 to 8: whatever was computed from training data and can be merged or run.
    ItemKind.UPDATE: ItemGroup.MODEL,
    ItemKind.CANDIDATE: ItemGroup.MODEL,
    ItemKind.RELEASE: ItemGroup.MODEL,
    ItemKind.SNAPSHOT: ItemGroup.MODEL,
    # Row 9.
    ItemKind.ARCHITECTURE: ItemGroup.TECHNOLOGY,
    # Row 11.
    ItemKind.METRICS: ItemGroup.STATISTICS,
    # Row 13, digests: signed words about crossings, nothing computed from training data.
    ItemKind.CHECKPOINT: ItemGroup.CONTROL,
    ItemKind.APPROVAL: ItemGroup.CONTROL,
}
"""A kind without a group (logits, evidence) matches no permit: PLAT-DENY."""


class DataClass(StrEnum):
    """Legal classes of data.

    `raw` and `per_sample` describe the item itself; the others are inherited from the training data
    of the whole lineage (PLAT-DERIVED).
    """

    PERSONAL = "personal"
    SENSITIVE = "sensitive"
    IMPORTANT = "important"
    GEOGRAPHIC = "geographic"
    PER_SAMPLE = "per_sample"
    RAW = "raw"


class Purpose(StrEnum):
    """What the item is for; an approval names exactly one."""

    CIVIL_DRIVING = "civil_driving"
    FOREIGN_AUTHORITY = "foreign_authority"
    MILITARY = "military"


class Chip(StrEnum):
    """Export-control class of the most restricted chip that took part (reference, section 6)."""

    UNCONTROLLED = "uncontrolled"
    CONTROLLED_3A090 = "3a090"
    PRC_3A090 = "prc_3a090"
    UNKNOWN = "unknown"


class ApprovalType(StrEnum):
    """Artefacts of the reference's section 5 that the packs ask for."""

    CAC_ASSESSMENT = "cac.assessment"
    CAC_SCC = "cac.scc"
    CAC_CERT = "cac.cert"
    MNR_ENTRUSTMENT = "mnr.entrustment"
    MNR_OUTBOUND = "mnr.outbound"
    CN_DERIVED_DETERMINATION = "cn.derived_determination"
    CN_TECH_EXPORT = "cn.tech_export"
    CN_OTA_FILING = "cn.ota_filing"
    CN_FOREIGN_AUTHORITY_APPROVAL = "cn.foreign_authority_approval"
    BIS_CLASSIFICATION = "bis.classification"
    BIS_LICENSE = "bis.license"
    BIS_ICTS_AUTH = "bis.icts_auth"
    DOJ_ONWARD_CLAUSE = "doj.onward_clause"
    DPF_CERT = "dpf_cert"
    SCC_ID = "scc_id"
    TIA_ID = "tia_id"
    BCR_ID = "bcr_id"
    EDPB_ANONYMITY = "edpb.anonymity"
    EU_DUAL_USE_CLASS = "eu.dual_use_class"
    TYPE_APPROVAL_ID = "type_approval_id"
