"""Room: what is computed with updates: clipping, merging, the outer optimiser, the release gate.

    norm_l2 = measure_norm(site_file, layout)
    factor = clip_factor(norm_l2, bound_l2=1.0)

    mean = weighted_mean(contributions)
    step = outer_step(mean, layout, outer, momentum=Momentum(old=old_file, new_fd=new_fd))

`step` is a `Source`: whoever encodes it pulls the merge through, segment by segment.
"""

from ringfence.learn.clip import clip_factor, measure_norm
from ringfence.learn.gate import Held, Passed, judge
from ringfence.learn.merge import Contribution, weighted_mean, weights
from ringfence.learn.outer import Momentum, keeps_momentum, outer_step

__all__ = [
    "Contribution",
    "Held",
    "Momentum",
    "Passed",
    "clip_factor",
    "judge",
    "keeps_momentum",
    "measure_norm",
    "outer_step",
    "weighted_mean",
    "weights",
]
