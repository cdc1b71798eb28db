"""The training script of one region: what an ML engineer writes, with Ringfence's lines marked.

    ringfence train examples/signs/train.py --home regions/cn

The catalogue in the region's home says which pictures are its own; the agreement says how to train.
"""

import os
from pathlib import Path

import batches
import model
import signs
from torch import nn

import ringfence  # 1
import ringfence.torch as rt  # 2

catalogue = Path(os.environ["RINGFENCE_HOME"]) / "catalogue.json"
training = signs.open_catalogue(catalogue, split="train")
validation = signs.open_catalogue(catalogue, split="validation")

net = model.build(len(signs.label_space()))
trainer = rt.Trainer(net, batches.training_batches(training), nn.CrossEntropyLoss())  # 3
evaluate = trainer.evaluator(  # 4
    batches.plain_batches(validation), unlabelled=batches.unlabelled_batches(training, limit=500)
)
with ringfence.connect(evaluate=evaluate) as session:  # 5
    for work in session.rounds():  # 6
        trained = trainer.train(work, federated=session.federated)  # 7
        work.submit(trained.tensors, examples=trained.examples, state=trained.state)  # 8
        print(f"{work.lineage} round {work.number}: loss {trained.loss:.3f}", flush=True)
