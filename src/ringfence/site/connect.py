"""`ringfence.connect`: where a training script meets its gateway."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from ringfence.core.errors import ConfigError
from ringfence.core.ids import digest
from ringfence.core.site_wire import Hello
from ringfence.site.session import Evaluator, Session

SOCKET_VARIABLE = "RINGFENCE_SOCKET"
HOME_VARIABLE = "RINGFENCE_HOME"
CODE_VARIABLE = "RINGFENCE_CODE"


def connect(
    evaluate: Evaluator | None = None,
    *,
    socket_path: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    patience_s: float = 600.0,
) -> Session:
    """Open the line to this region's gateway.

    `ringfence train` sets where the socket and the region's home are; the arguments are for
    scripts that run without it.  `evaluate(weights, state)` measures a candidate; an agreement
    with a release gate needs it.  `patience_s`: how long to try while the gateway is down.

    Raises: ConfigError when a place is not known or no gateway answers; Refused when the gateway
    turns the script away.
    """
    script = _script()
    return Session(
        socket_path=_place(socket_path, SOCKET_VARIABLE, "socket_path"),
        state_directory=_place(home, HOME_VARIABLE, "home") / "site" / "state",
        hello=Hello(
            code=os.environ.get(CODE_VARIABLE) or code_digest(script),
            script=script.name[:255],
            evaluates=evaluate is not None,
        ),
        evaluate=evaluate,
        patience_s=patience_s,
    )


def code_digest(script: Path) -> str:
    """SHA-256 of a script's bytes: what a site declares as the code that trained."""
    return digest("sha256:" + hashlib.sha256(script.read_bytes()).hexdigest())


def _place(given: str | os.PathLike[str] | None, variable: str, argument: str) -> Path:
    place = given or os.environ.get(variable)
    if not place:
        raise ConfigError(
            f"expected {variable} or {argument}=, got neither; start the script with "
            "`ringfence train SCRIPT`"
        )
    return Path(place)


def _script() -> Path:
    file = getattr(sys.modules["__main__"], "__file__", None)
    if not file:
        raise ConfigError(
            "expected a script file, whose digest names the code that trained; got an interactive "
            "Python; save the script and start it with `ringfence train SCRIPT`"
        )
    return Path(file)
