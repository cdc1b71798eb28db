"""How commands speak: for a person on a terminal, or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from rich.console import Console

console = Console()
errors = Console(stderr=True)


def say(text: str, *, as_json: bool, **fields: object) -> None:
    """Print `text`, or `fields` as one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps(fields, sort_keys=True) + "\n")
    else:
        # A terminal wraps by itself; a pipe gets one line.
        console.print(text, soft_wrap=True)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: Mapping[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(line)


def start_logging(*, as_json: bool) -> None:
    """Send the program's own log to stderr; it never holds tensor values or keys."""
    handler = logging.StreamHandler()
    if as_json:
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
