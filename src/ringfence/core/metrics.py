"""Which numbers may cross: the agreement fixes names, ranges, resolution and the least cohort."""

from __future__ import annotations

import math

from ringfence.core.agreement import Agreement
from ringfence.core.errors import Refused

_GRID_TOLERANCE = 1e-6
"""How far, in steps, a number may lie beside the grid: decimal steps are not exact in binary."""


def round_metrics(agreement: Agreement, metrics: dict[str, float]) -> dict[str, float]:
    """Round every metric to the agreement's resolution; a finer number would say more.

    Raises: Refused when a name is not agreed, or a number is out of range or not finite.
    """
    rounded: dict[str, float] = {}
    for name, value in metrics.items():
        terms = next((metric for metric in agreement.terms.metrics if metric.name == name), None)
        if terms is None:
            agreed = sorted(metric.name for metric in agreement.terms.metrics)
            raise _refuse(
                "unknown-metric", f"metric {name[:80]!r} is not agreed; agreed are {agreed}"
            )
        if not math.isfinite(value) or not terms.minimum <= value <= terms.maximum:
            raise _refuse(
                "metric-out-of-range",
                f"metric {name!r}: expected {terms.minimum} to {terms.maximum}",
            )
        steps = round((value - terms.minimum) / terms.resolution)
        # Twelve decimals hide the binary tail of a decimal step, so that both ends agree.
        rounded[name] = round(min(terms.minimum + steps * terms.resolution, terms.maximum), 12)
    return rounded


def check_metrics(agreement: Agreement, metrics: dict[str, float], *, examples: int) -> None:
    """Refuse numbers that no honest gateway sends: off the grid, or over too few examples.

    Raises: Refused with rule PLAT-COHORT when `examples` is below the least cohort of any metric.
    """
    for name, value in round_metrics(agreement, metrics).items():
        terms = agreement.metric(name)
        if abs(value - metrics[name]) > _GRID_TOLERANCE * terms.resolution:
            raise _refuse(
                "metric-too-fine", f"metric {name!r}: expected steps of {terms.resolution}"
            )
        if examples < terms.least_cohort:
            raise _refuse(
                "cohort-too-small",
                f"metric {name!r}: expected at least {terms.least_cohort} examples, got {examples}",
                rules=("PLAT-COHORT",),
            )


def _refuse(reason: str, detail: str, rules: tuple[str, ...] = ()) -> Refused:
    return Refused(stage="metrics", reason=reason, detail=detail, rules=rules)
