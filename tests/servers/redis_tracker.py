"""A Redis for the tracker stores: of one node, and a cluster of one that refuses cross-slot keys."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from ticketlock.redis.embedded import EmbeddedRedis, server_binary

from .processes import child, free_port


@contextmanager
def tracker_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """Sections of a `tracker_store`, each for keys of its own."""
    numbers = count()
    with EmbeddedRedis() as server:
        yield lambda: {"type": "redis", "port": server.port, "key_prefix": f"t{next(numbers)}"}


@contextmanager
def cluster_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    numbers = count()
    with cluster() as server:
        node = f"127.0.0.1:{server.port}"
        yield lambda: {
            "type": "redis",
            "deployment_mode": "cluster",
            "endpoints": [node],
            "key_prefix": f"c{next(numbers)}",
        }


@contextmanager
def sentinel_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """One server and one sentinel that watches it."""
    numbers = count()
    with EmbeddedRedis() as master, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        port = free_port()
        config = Path(folder, "sentinel.conf")
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        )
        with Redis(port=port) as client:

            def ready() -> bool:
                try:
                    return bool(client.ping())
                except RedisError:
                    return False

            words = [server_binary(), str(config), "--sentinel"]
            with child(words, ready, Path(folder, "log")):
                yield lambda: {
                    "type": "redis",
                    "deployment_mode": "sentinel",
                    "endpoints": [f"127.0.0.1:{port}"],
                    "key_prefix": f"s{next(numbers)}",
                }


@contextmanager
def cluster() -> Iterator[EmbeddedRedis]:
    """A node that has all slots: enough for a client's routing and the server's refusals."""
    for _ in range(5):  # its second port, 10000 above, may be in use: then it ends at once
        with EmbeddedRedis(["--cluster-enabled", "yes"]) as server:
            try:
                _take_all_slots(server)
            except RedisError:
                continue
            yield server
            return
    raise RuntimeError("no cluster node starts")


def _take_all_slots(server: EmbeddedRedis) -> None:
    with Redis(host="127.0.0.1", port=server.port, decode_responses=True) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        end = time.monotonic() + 10
        while client.cluster("INFO")["cluster_state"] != "ok":
            assert time.monotonic() < end, "the cluster does not come up"
            time.sleep(0.05)
