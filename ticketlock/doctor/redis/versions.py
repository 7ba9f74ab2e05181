"""Known faults of versions of Redis and Valkey: the releases that mended them.

The table is of 2026-11-27. A fault is in it if a user with the rights of a bot, or one without a
login, can reach it, or if it harms what we do. A distribution may mend a fault and keep the number
of the version; the finding says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..finding import Finding, fault
from .server import Server

VERSION = fault(
    "redis-version", "warning",
    "Replicas and other clients with EVAL, some of them without a login, can crash the server or run "
    "code in it.",
    "the advisories and release notes that `ticketlock/doctor/redis/versions.py` names",
)  # fmt: skip


class Known(NamedTuple):
    """A fault of a product.

    Attributes:
        product: `redis` or `valkey`.
        name: its number.
        what: what it allows.
        mended: release line -> first release of it without the fault. A line between two of
            these was never mended; one above the last never had the fault.
        source: where it is described.
        tls: only servers with TLS have it.
        since: the first line that has it.
    """

    product: str
    name: str
    what: str
    mended: dict[tuple[int, int], int]
    source: str
    tls: bool = False
    since: tuple[int, int] = (0, 0)

    def spoils(self, version: tuple[int, ...]) -> bool:
        """Whether a release has the fault."""
        line, patch = (*version, 0)[:2], (*version, 0, 0)[2]
        if line in self.mended:
            return patch < self.mended[line]
        return self.since <= line < max(self.mended)


KNOWN = (
    Known(
        "redis", "CVE-2025-49844", "a Lua script runs code in the server",
        {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
        "https://github.com/redis/redis/security/advisories/GHSA-4789-qfc9-5f9q",
    ),
    Known(
        "redis", "CVE-2026-23479", "a blocked client that is evicted runs code in the server",
        {(7, 2): 14, (7, 4): 9, (8, 2): 6, (8, 4): 3, (8, 6): 3},
        "https://github.com/redis/redis/security/advisories/GHSA-93m2-935m-8rj3",
        since=(7, 2),
    ),
    Known(
        "redis", "CVE-2026-23631", "a Lua script on a replica that takes writes runs code in it",
        {(7, 2): 14, (7, 4): 9, (8, 2): 6, (8, 4): 3, (8, 6): 3},
        "https://github.com/redis/redis/security/advisories/GHSA-8ghh-qpmp-7826",
        since=(7, 0),
    ),
    Known(
        "redis", "CVE-2026-81934", "a client without a login runs code in a server with TLS",
        {(6, 2): 24, (7, 2): 16, (7, 4): 11, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1},
        "https://github.com/cisagov/CSAF, VA-26-239-01", tls=True,
    ),
    Known(
        "valkey", "CVE-2025-49844", "a Lua script runs code in the server",
        {(7, 2): 11, (8, 0): 6, (8, 1): 4},
        "https://github.com/valkey-io/valkey/releases/tag/8.1.4",
    ),
    Known(
        "valkey", "CVE-2025-67733", "a Lua script puts answers into the stream of its connection",
        {(7, 2): 12, (8, 0): 7, (8, 1): 6, (9, 0): 2},
        "https://github.com/valkey-io/valkey/releases/tag/9.0.3",
    ),
    Known(
        "valkey", "CVE-2026-23479", "a blocked client that is evicted runs code in the server",
        {(7, 2): 13, (8, 0): 9, (8, 1): 7, (9, 0): 4},
        "https://github.com/valkey-io/valkey/releases/tag/9.0.4",
    ),
    Known(
        "valkey", "CVE-2026-23631", "a Lua script on a replica that takes writes runs code in it",
        {(7, 2): 13, (8, 0): 9, (8, 1): 7, (9, 0): 4},
        "https://github.com/valkey-io/valkey/releases/tag/9.0.4",
    ),
    Known(
        "valkey", "CVE-2026-56684", "CLIENT KILL runs code in a server with TLS",
        {(8, 0): 10, (8, 1): 9, (9, 0): 5, (9, 1): 1},
        "https://github.com/valkey-io/valkey/releases/tag/9.1.1", tls=True,
    ),
    Known(
        "valkey", "GHSA-fq2f-crmw-q97r", "a client without a login crashes the Lua interpreter",
        {(9, 1): 2}, "https://github.com/valkey-io/valkey/releases/tag/9.1.2", since=(9, 1),
    ),
)  # fmt: skip


def version(server: Server, tls: bool) -> Iterator[Finding]:
    """The release has known faults. Source: the advisories in `KNOWN`."""
    found = [
        known
        for known in KNOWN
        if known.product == server.product and (tls or not known.tls)
        and server.version and known.spoils(server.version)
    ]  # fmt: skip
    if not found:
        return
    listed = "; ".join(f"{known.name} ({known.what})" for known in found)
    line = server.version[:2]
    patches = [known.mended[line] for known in found if line in known.mended]
    if len(patches) == len(found):
        target = ".".join(map(str, (*line, max(patches)))) + " or newer"
    else:
        target = "a release line that is still maintained: this one got no fix"
    yield VERSION.found(
        f"{server.program} has {listed}",
        f"upgrade to {target}; if the package is of a distribution, see whether its changelog "
        "names these faults, because it keeps the number",
    )
