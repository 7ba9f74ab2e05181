"""A visit to one server, or to those that belong together: what was seen there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .finding import Finding


@dataclass
class Visit:
    """What was seen of a server.

    Attributes:
        server: its address, without secrets.
        sections: of the `endpoints.yml` that name it.
        seen: product, version and form, as text; empty if it was not reached.
        findings: what is wrong, in the order in which it was seen.
    """

    server: str
    sections: tuple[str, ...]
    seen: str = ""
    findings: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The visit as JSON."""
        return {
            "server": self.server,
            "sections": list(self.sections),
            "seen": self.seen,
            "findings": [finding.as_dict() for finding in self.findings],
        }
