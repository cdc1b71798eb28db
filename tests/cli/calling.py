"""Commands called in this process: the same `main`, its status and what it said."""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from ringfence.cli.main import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended; `error` is what it wrote to stderr."""

    status: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


def call(*arguments: object) -> Outcome:
    """Run `ringfence ARGUMENTS`."""
    output, error = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return Outcome(status=status, output=output.getvalue(), error=error.getvalue())
