"""How long each phase of the demo trains, in batches of 32, and at which rate."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.torch import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Rounds, and what every region does in each of them."""

    rounds: int
    each: Recipe


PRETRAINING = Phase(rounds=6, each=Recipe(steps=166, learning_rate=0.05))
"""`world` without China."""

JOINT = Phase(rounds=5, each=Recipe(steps=20, learning_rate=0.05))
"""`world` with China; `us-market` does as many steps a round."""

MARKET_ROUNDS = 2

FINE_TUNING = Recipe(steps=150, learning_rate=0.1, final_share=0.05)
"""What makes a release a region's own model: a few local steps, at home, after the last round."""

MOST_PASSES = 16
"""Fine-tuning sees no picture more often: a pilot's 200 would be learnt by heart."""
