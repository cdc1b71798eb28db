"""Room: how updates become payload files and model files again.

form = PayloadFormat(codec="int8", layout=layout)
announced = encode(form, site_file.read_segment, fd, seed=os.urandom(32), factor=0.7)

with PayloadFile(form, path) as payload:
    payload.add(segment, np.float32(0.25), total_P)

applier = Applier(form, model=model_layout, base=base_file, model_fd=new_fd)
for chunk in chunks:
    applier.feed(chunk)
model = applier.finish()
"""

from ringfence.codec.apply import Applier, apply_update
from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile, encode
from ringfence.codec.rounding import SEED_BYTES, release_seed

__all__ = [
    "SEED_BYTES",
    "Applier",
    "PayloadFile",
    "PayloadFormat",
    "apply_update",
    "encode",
    "release_seed",
]
