"""Every fault and refusal that Ringfence raises.

    Error
    ├── Refused            an outcome: a rule, a check or the counterparty said no
    └── Fault              something is wrong and a person or a retry must act
        ├── ConfigError        settings, agreement or arguments; a person must edit them
        ├── FormatError        bytes that do not parse as what they claim to be
        ├── LayoutError        tensors that differ from the agreed layout
        ├── NotFiniteError     a NaN or an infinity where numbers belong
        ├── TrustError         a key, certificate or signature that does not hold
        ├── LogError           a log, proof or checkpoint that does not hold
        │   └── ForkError          two checkpoints of one log that cannot both be true
        ├── StateError         what is on disk contradicts itself
        └── BorderDownError    the other side cannot be reached; try again later

A refusal is recorded like a crossing; a fault travels up.  Messages say what was expected, what
came, for which object, and what to do next; they never carry tensor values, keys or personal data.
"""

from __future__ import annotations


class Error(Exception):
    """Root of everything that Ringfence raises on purpose."""


class Refused(Error):
    """A lawful outcome, not a fault: this artifact does not cross.

    `stage` is the step that said no, `reason` a stable reason code (`docs/reasons.md`), `rules` the
    ids of the legal rules that decided, if any did, `detail` a sentence for a person.
    """

    def __init__(
        self, *, stage: str, reason: str, detail: str, rules: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"refused at {stage} ({reason}): {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail
        self.rules = rules


class Fault(Error):
    """Something is wrong; no outcome was reached."""


class ConfigError(Fault):
    """Settings, agreement or arguments are wrong; a person must edit them."""


class FormatError(Fault):
    """Bytes do not parse as what they claim to be."""


class LayoutError(Fault):
    """Tensors differ from the agreed layout."""


class NotFiniteError(Fault):
    """A NaN or an infinity stands where a number belongs."""


class TrustError(Fault):
    """A key, certificate or signature does not hold."""


class LogError(Fault):
    """A log, proof or checkpoint does not hold."""


class ForkError(LogError):
    """Two checkpoints of one log cannot both be true; the run stops."""


class StateError(Fault):
    """What is on disk contradicts itself."""


class BorderDownError(Fault):
    """The other side cannot be reached; nothing was decided, try again later."""
