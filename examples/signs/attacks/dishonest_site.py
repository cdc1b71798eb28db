"""A site's script that does not play by the rules: it hands over what the honest library would not.

    ringfence train dishonest_site.py --home regions/cn raw-pictures cn.parquet
    ringfence train dishonest_site.py --home regions/us borrowed-state sha256:...

`raw-pictures` offers the bytes of a region's own pictures in place of an update; `borrowed-state`
offers a well-formed update that was made from the regional state of another lineage.  Both speak
the gateway's own protocol, without the library's checks: the gateway must refuse by itself.
"""

import fcntl
import os
import sys
from pathlib import Path

from ringfence.core.site_wire import (
    LAYOUT_LIMIT_BYTES,
    Hello,
    Rejected,
    Submit,
    Train,
    Welcome,
    from_gateway,
    layout_from_bytes,
)
from ringfence.site import frames, unix_socket
from ringfence.site.connect import CODE_VARIABLE, SOCKET_VARIABLE
from ringfence.site.handover import SEALS

LINEAGE = {"raw-pictures": "world", "borrowed-state": "us-market"}


def main(attack: str, material: str) -> int:
    """Hand the attack over in a round of its lineage, zeros in any other; expect a refusal."""
    connection = unix_socket.open_socket()
    with unix_socket.address(Path(os.environ[SOCKET_VARIABLE])) as address:
        connection.connect(address)
    hello = Hello(code=os.environ[CODE_VARIABLE], script="dishonest_site.py", evaluates=True)
    frames.send(connection, hello)
    update_bytes = 0
    while (received := frames.receive(connection, from_gateway)) is not None:
        message, descriptors = received
        if isinstance(message, Welcome):
            layout = os.pread(descriptors[0], LAYOUT_LIMIT_BYTES, 0)
            update_bytes = layout_from_bytes(layout).size_bytes
        elif isinstance(message, Train):
            aimed = message.lineage == LINEAGE[attack]
            data = stolen_bytes(attack, material, update_bytes) if aimed else bytes(update_bytes)
            state = material if aimed and attack == "borrowed-state" else message.state_in
            frames.send(connection, offer(message, state), (sealed(data),))
        elif isinstance(message, Rejected):
            print(f"refused at {message.stage}: {message.reason}: {message.detail}")
            return 0
        frames.close_all(descriptors)
    return 1


def offer(order: Train, state: str) -> Submit:
    """What the site says of the bytes that come along."""
    return Submit(
        lineage=order.lineage,
        round=order.round,
        base=order.parent,
        state_in=state,
        state_out="",
        examples=100,
        metrics={},
    )


def stolen_bytes(attack: str, material: str, update_bytes: int) -> bytes:
    """A region's pictures as they are, or an update of zeros of the right size."""
    if attack == "raw-pictures":
        return Path(material).read_bytes()
    return bytes(update_bytes)


def sealed(data: bytes) -> int:
    """A memory file that the gateway will take."""
    memory = os.memfd_create("update", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(memory), "wb") as file:
        file.write(data)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    return memory


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
