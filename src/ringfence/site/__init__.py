"""Floor 2: the training side of a region; what a script sees of Ringfence.

import ringfence

session = ringfence.connect(evaluate=lambda weights, state: ringfence.Evaluation(...))
for round in session.rounds():
    tensors, examples, loss = train_locally(round.weights, round.settings)
    round.submit(tensors, examples=examples, metrics={"loss": loss})
"""
