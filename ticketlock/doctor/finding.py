"""The faults that the doctor knows, and its findings: a fault that a server has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: `error`: a promise does not hold, or nothing works. `warning`: one is lost when something fails.
#: `note`: worth to know; it does not change the exit status. `accepted`: an operator has said so.
Severity = Literal["error", "warning", "note", "accepted"]

#: Name -> fault. docs/operations/doctor.md is made of it.
FAULTS: dict[str, Fault] = {}


@dataclass(frozen=True)
class Fault:
    """Something that may be wrong.

    Attributes:
        name: unique; it begins with the kind of server.
        severity: `error`, `warning` or `note`.
        why: why it matters.
        source: the page, measurement or record that says so.
    """

    name: str
    severity: Severity
    why: str
    source: str

    def found(self, what: str, do: str) -> Finding:
        """It was found.

        Args:
            what: what is wrong, with the values that were seen.
            do: what to type or to change.
        """
        return Finding(self.name, self.severity, what, self.why, do)


@dataclass(frozen=True)
class Finding:
    """A fault that a server has.

    Attributes:
        name, severity, why: those of the fault; `accepted` in place of its severity.
        what: what is wrong, with the values that were seen.
        do: what to type or to change.
    """

    name: str
    severity: Severity
    what: str
    why: str
    do: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def fault(name: str, severity: Severity, why: str, source: str) -> Fault:
    """Declare a fault. A name can be declared once."""
    assert name not in FAULTS, name
    FAULTS[name] = made = Fault(name, severity, why, source)
    return made


#: The server gave no usable answer; the exit status is 3.
UNREACHABLE = fault(
    "unreachable", "error",
    "Replicas cannot use it either: no turn begins without the lock store and the tracker store, and "
    "events wait in the outbox without the broker.",
    "docs/operations/failover.md",
)  # fmt: skip

#: A section has a wrong key, or a package is missing.
WRONG_SETTING = fault(
    "wrong-setting", "error",
    "`ticketlock run` does not start with this section.",
    "docs/reference/endpoints.md",
)  # fmt: skip

#: A section that works, and not for what replicas need.
SECTION = fault(
    "section-warning", "warning",
    "The section works, but not for several replicas, or not for a careful receiver.",
    "docs/guides/configure.md",
)  # fmt: skip

#: Servers may forbid what the doctor asks; managed ones often do.
NOT_LOOKED_AT = fault(
    "not-looked-at", "note",
    "What was not looked at may be wrong. Replicas do not need these rights.",
    "docs/operations/doctor.md",
)  # fmt: skip
