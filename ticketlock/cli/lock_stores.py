"""The lock store of an operator's command: from an `endpoints.yml`, or at a URL."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..endpoints.file import read_endpoints
from ..endpoints.registry import create_lock_store
from ..errors import ConfigurationError
from ..locks.concurrent.store import ConcurrentRedisLockStore
from ..locks.memory import InMemoryLockStore
from ..locks.store import LockStore
from .common import ENDPOINTS


def place_options(command: argparse.ArgumentParser) -> None:
    """Add the options that `open_lock_store` reads."""
    command.add_argument(
        "--endpoints", type=Path, metavar="FILE",
        help=f"file with the section lock_store ({ENDPOINTS})",
    )  # fmt: skip
    command.add_argument("--redis", metavar="URL", help="a Redis server, instead of a file")
    command.add_argument("--key-prefix", help="with --redis: the lock store's key_prefix")


def open_lock_store(args: argparse.Namespace) -> LockStore:
    """The lock store, not connected. Raises ConfigurationError."""
    if args.redis is not None:
        if args.endpoints is not None:
            raise ConfigurationError("--redis and --endpoints: give one of them")
        keys = {"url": args.redis, "key_prefix": args.key_prefix, "where": "--redis"}
        return ConcurrentRedisLockStore(**{key: text for key, text in keys.items() if text})
    if args.key_prefix is not None:
        raise ConfigurationError("--key-prefix is for --redis: a file has its own key_prefix")
    if args.endpoints is None and not ENDPOINTS.exists():
        raise ConfigurationError(
            f"there is no {ENDPOINTS} here: name one with --endpoints FILE, "
            "or a server with --redis URL"
        )
    endpoints = read_endpoints(args.endpoints or ENDPOINTS)
    where = endpoints.where("lock_store")
    store = create_lock_store(endpoints.section("lock_store"), where)
    if isinstance(store, InMemoryLockStore):
        raise ConfigurationError(
            f"{where}: in_memory locks can be seen only in their own process: open "
            "the page of its bot server (ticketlock run)"
        )
    return store
