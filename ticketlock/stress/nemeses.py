"""What nemeses do, where, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

ALL = ("server", "cluster", "sentinel")


@dataclass(frozen=True)
class Kind:
    """A nemesis.

    Attributes:
        what: it does; for the command's help.
        on: the topologies that have it.
        loses: whether servers may have forgotten afterwards what they had answered.
    """

    what: str
    on: tuple[str, ...] = ALL
    loses: bool = False


#: Name -> nemesis; on servers of the run alone.
NEMESES = {
    "kill": Kind("kill a worker"),
    "stop": Kind("stop a worker for longer than the lease, and let it continue"),
    "block": Kind("block the event loop of a worker for longer than the lease"),
    "cancel": Kind("cancel half of what the tasks of a worker are doing"),
    "client-kill": Kind("let a server close connections"),
    "pause": Kind("let a server pause all clients"),
    "cut": Kind("reset all connections"),
    "black-hole": Kind("let nothing through, in both directions"),
    "bells": Kind("lose all that servers publish"),
    "slow": Kind("let everything come later"),
    "lossy": Kind("let some of it come much later, as where packets are lost"),
    "memory": Kind("let a server have no memory left"),
    "restart": Kind("kill the server, and start it with its data", ("server",)),
    "disk": Kind("let the server's disk be full", ("server",)),
    "planned-failover": Kind("let a replica take over", ("cluster",)),
    "migration": Kind("move a slot to another master and back", ("cluster",)),
    "wipe": Kind("kill the server, and start it without data", ("server",), loses=True),
    "flushall": Kind("remove all data", loses=True),
    "clock": Kind("set the server's clock forward, and back", ("server",), loses=True),
    "failover": Kind("kill or stop a master", ("cluster", "sentinel"), loses=True),
    "lagging-failover": Kind(
        "kill or stop a master whose replicas have missed its last moments", ("cluster", "sentinel"),
        loses=True,
    ),
    "partition": Kind(
        "cut a master off from the other servers, not from its clients", ("cluster", "sentinel"),
        loses=True,
    ),
}  # fmt: skip
#: Names for several of them; not for `clock`, which needs a C compiler.
SETS = {
    "keeping": "all that keep data",
    "losing": "all that lose data",
}


def named(words: tuple[str, ...], topology: str) -> tuple[str, ...]:
    """The nemeses that words name, each once. Raises ValueError with what is wrong."""
    found: list[str] = []
    for word in words:
        if word in SETS:
            loses = word == "losing"
            found += [
                name
                for name, kind in NEMESES.items()
                if topology in kind.on and kind.loses == loses and name != "clock"
            ]
        elif word not in NEMESES:
            raise ValueError(f"{word!r} is not one of {', '.join([*NEMESES, *SETS])}")
        elif topology not in NEMESES[word].on:
            where = " or ".join(NEMESES[word].on)
            raise ValueError(f"{word!r} is for --topology {where}")
        else:
            found.append(word)
    return tuple(dict.fromkeys(found))
