"""When a paper must be renewed, and what else than time ends its truth.

Source: reference, section 5, columns "Validity" and "Re-check trigger".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ringfence.policy.approvals import Approval
from ringfence.policy.words import ApprovalType

_DAY_S = 86_400.0
_WARNING_DAYS = 30
_ASSESSMENT_WORKING_DAYS = 60
_CERTIFICATION_MONTHS = 6
_FRIDAY = 4

_RECHECK: dict[ApprovalType, str] = {
    ApprovalType.CAC_ASSESSMENT: "any change of scope, control or law",
    ApprovalType.CAC_SCC: "any change; the impact assessment is kept for 3 years",
    ApprovalType.CAC_CERT: "a scope that does not match",
    ApprovalType.FTZ_CLEARANCE: "a new negative list",
    ApprovalType.MNR_ENTRUSTMENT: "a new area, sensor or precision",
    ApprovalType.MNR_OUTBOUND: "a new area, sensor or precision",
    ApprovalType.CN_DERIVED_DETERMINATION: "a new data class, architecture or privacy parameters",
    ApprovalType.CN_TECH_EXPORT: "a change of the catalogue",
    ApprovalType.CN_OTA_FILING: "a change of the catalogue",
    ApprovalType.BIS_CLASSIFICATION: "a change of the rules, a new feature",
    ApprovalType.BIS_ENC: "a change of the rules, a new feature",
    ApprovalType.BIS_LICENSE: "a change of the rules, a new feature",
    ApprovalType.BIS_ICTS_AUTH: "a change of supplier, lineage or ownership",
    ApprovalType.BIS_DOC: "a change of supplier, lineage or ownership",
    ApprovalType.DOJ_DSP_PROGRAM: "a counter near its threshold",
    ApprovalType.DOJ_ONWARD_CLAUSE: "a counter near its threshold",
    ApprovalType.DPF_CERT: "a change of the listing; the ruling in C-703/25 P",
    ApprovalType.EU_DUAL_USE_CLASS: "a change of the list",
    ApprovalType.JP_CLASS: "a change of the list",
    ApprovalType.SCC_ID: "a change of the law",
    ApprovalType.TIA_ID: "a change of the law",
    ApprovalType.BCR_ID: "a change of the law",
    ApprovalType.DPIA_ID: "a change of the law",
    ApprovalType.JP_BASIS_ID: "a change of the law",
    ApprovalType.UK_IDTA: "a change of the law",
}


def recheck(type_: ApprovalType) -> str:
    """What, besides time, asks for a new look at a paper of this type; empty where nothing does."""
    return _RECHECK.get(type_, "")


def warns_from(approval: Approval) -> float:
    """The moment from which its end is near, in seconds since the epoch.

    An extension of `cac.assessment` is asked for 60 working days before its end, a renewal of
    `cac.cert` 6 months before; every other type is warned of 30 days before.  Working days are
    Monday to Friday: public holidays are not known here, so ask earlier where there are some.
    """
    match approval.type:
        case ApprovalType.CAC_ASSESSMENT:
            return _working_days_before(approval.expires, _ASSESSMENT_WORKING_DAYS)
        case ApprovalType.CAC_CERT:
            return _months_before(approval.expires, _CERTIFICATION_MONTHS)
        case _:
            return approval.expires - _WARNING_DAYS * _DAY_S


def _working_days_before(time_s: float, days: int) -> float:
    day = datetime.fromtimestamp(time_s, UTC)
    while days:
        day -= timedelta(days=1)
        days -= day.weekday() <= _FRIDAY
    return day.timestamp()


def _months_before(time_s: float, months: int) -> float:
    """The same day so many months earlier; its month's last day where there is no such day."""
    end = datetime.fromtimestamp(time_s, UTC)
    year, month = divmod(end.year * 12 + end.month - 1 - months, 12)
    following = datetime(year + (month == 11), (month + 1) % 12 + 1, 1, tzinfo=UTC)
    last = (following - timedelta(days=1)).day
    return end.replace(year=year, month=month + 1, day=min(end.day, last)).timestamp()
