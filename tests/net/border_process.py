"""A hub in a process of its own; prints its port and runs until it is told to end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.net.border_hub import FileHub, expect_gateway, own_leaf
from tests.trust.trust_world import new_world

from ringfence.net.border_server import BorderServer, serve


def main() -> None:
    world = new_world()
    leaf = own_leaf(world.hub())
    with tempfile.TemporaryDirectory() as directory:
        server = BorderServer(
            FileHub(Path(directory)), leaf_source=lambda: leaf, verify=expect_gateway(world)
        )
        serve(server, host="127.0.0.1", port=0, on_ready=lambda port: print(port, flush=True))


if __name__ == "__main__":
    main()
