"""The locks that are compared: one module each, one class `Adapter` with the same four methods.

An adapter runs in a worker process, in the environment of its peer. It has

    asynchronous: bool          tasks of an event loop, or threads
    open(), close()             awaited if asynchronous
    lock(name)                  a context manager of one turn; `async with` if asynchronous

Where lock objects cannot be shared each cycle makes one, as a server does whose messages are
of many conversations.
"""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """A lock as it is used: which module, in which environment, on which event loop.

    Attributes:
        module: of this package.
        packages: what is installed for it; peers with equal packages share an environment.
        fifo, fence: what its documents promise; for the tables.
    """

    label: str
    module: str
    packages: tuple[str, ...] = ()
    uvloop: bool = False
    fifo: bool = False
    fence: bool = False


_BASE = ("redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0")
_PEERS = (*_BASE, "python-redis-lock==4.0.1", "redis-fifo-lock==0.3.2", "pottery==3.0.1")
#: Its package is called redis_lock, as that of python-redis-lock.
_ALONE = (*_BASE, "redis-lock-py==1.3.0")

PEERS = {
    "ticketlock": Peer("ticketlock", "ours", fifo=True, fence=True),
    "ticketlock-uvloop": Peer("ticketlock, uvloop", "ours", uvloop=True, fifo=True, fence=True),
    "ticketlock-sync": Peer("ticketlock, threads", "ours_sync", fifo=True, fence=True),
    "floor": Peer("floor", "floor", fifo=True),
    "floor-uvloop": Peer("floor, uvloop", "floor", uvloop=True, fifo=True),
    "redis-py": Peer("redis-py", "redis_py", _PEERS),
    "redis-py-uvloop": Peer("redis-py, uvloop", "redis_py", _PEERS, uvloop=True),
    "redis-py-sync": Peer("redis-py, threads", "redis_py_sync", _PEERS),
    "redis-fifo-lock": Peer("redis-fifo-lock", "redis_fifo_lock", _PEERS, fifo=True, fence=True),
    "redis-fifo-lock-uvloop": Peer(
        "redis-fifo-lock, uvloop", "redis_fifo_lock", _PEERS, uvloop=True, fifo=True, fence=True
    ),
    "python-redis-lock": Peer("python-redis-lock, threads", "python_redis_lock", _PEERS),
    "pottery": Peer("pottery", "pottery", _PEERS),
    "redis-lock-py": Peer("redis-lock-py", "redis_lock_py", _ALONE),
}
#: Not a lock: what drives a server to its limit.
PIPELINE = Peer("pipeline", "pipeline")

#: The asyncio peers on their standard event loop, and those of threads.
ASYNC_PEERS = ("redis-py", "redis-fifo-lock", "pottery", "redis-lock-py")
THREAD_PEERS = ("redis-py-sync", "python-redis-lock")
