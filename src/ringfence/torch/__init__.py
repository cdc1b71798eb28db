"""Training with PyTorch: an ordinary module, its loader and its loss as one site of a federation.

import ringfence
import ringfence.torch as rt

trainer = rt.Trainer(module, loader, loss)
session = ringfence.connect(evaluate=trainer.evaluator(validation, unlabelled=pictures))
for round in session.rounds():
    trained = trainer.train(round, federated=session.federated)
    round.submit(trained.tensors, examples=trained.examples, state=trained.state)

What the agreement calls regional (batch normalisation, as `describe` has it) stays at home.
"""

from ringfence.torch.evaluation import Score, measure_accuracy, reestimate_statistics
from ringfence.torch.fitting import Fit, Recipe, fit, seed_everything
from ringfence.torch.tensors import describe, load, take
from ringfence.torch.trainer import Trained, Trainer

__all__ = [
    "Fit",
    "Recipe",
    "Score",
    "Trained",
    "Trainer",
    "describe",
    "fit",
    "load",
    "measure_accuracy",
    "reestimate_statistics",
    "seed_everything",
    "take",
]
