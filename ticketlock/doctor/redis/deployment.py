"""A Redis deployment of an `endpoints.yml`, and the sections that use it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...redis.durability import Durability
from ...redis.settings import RedisSettings

Address = tuple[str, int]


@dataclass(frozen=True)
class Use:
    """How a section uses a deployment.

    Attributes:
        section: `lock_store` or `tracker_store`.
        settings: address, login and key prefix of the section.
        lease: seconds that a holder keeps its turn without renewal; None: it keeps no locks.
        durability: what its grants and messages must outlive.
    """

    section: str
    settings: RedisSettings
    lease: float | None = None
    durability: Durability = field(default_factory=Durability)

    @property
    def keeps_locks(self) -> bool:
        """Whether it has locks and accepted messages there; if not, it has histories."""
        return self.lease is not None


@dataclass
class Deployment:
    """One server, a cluster, or the servers behind sentinels.

    Attributes:
        uses: the sections that name it; the login of the first is used.
        timeout: seconds for connecting and for an answer.
    """

    uses: list[Use]
    timeout: float
    settings: RedisSettings = field(init=False)

    def __post_init__(self) -> None:
        found = self.uses[0].settings
        self.settings = replace(found, socket_timeout=min(found.socket_timeout, self.timeout))

    @property
    def mode(self) -> str:
        """`standard`, `cluster` or `sentinel`."""
        return self.settings.deployment_mode

    @property
    def lease(self) -> float | None:
        """The shortest lease of locks there; None without locks."""
        return min((use.lease for use in self.uses if use.lease is not None), default=None)

    @property
    def keeps_histories(self) -> bool:
        """Whether a tracker store is there."""
        return any(not use.keeps_locks for use in self.uses)

    def at(self, address: Address, of: RedisSettings | None = None) -> RedisSettings:
        """The settings of one of its servers.

        Args:
            of: those of the section whose login is to be used; default: the first one's.
        """
        settings = of or self.settings
        db = 0 if self.mode == "cluster" else settings.db
        return replace(
            settings, host=address[0], port=address[1], db=db, deployment_mode="standard",
            endpoints=(), unix_socket_path=None, socket_timeout=self.settings.socket_timeout,
        )  # fmt: skip

    def login(self, use: Use, address: Address | None) -> RedisSettings:
        """The settings with which a section logs in, at one of the servers or where it says."""
        if address is not None:
            return self.at(address, use.settings)
        return replace(use.settings, socket_timeout=self.settings.socket_timeout)


def shown(address: Address) -> str:
    """Host and port as text."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
