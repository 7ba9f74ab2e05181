"""What completion and mypy know of stores and brokers: each key of theirs, and its type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GOOD = """
from ticketlock import (
    ConcurrentRedisLockStore, InMemoryLockStore, RedisLockStore, SyncLockStore, Turn,
)
from ticketlock.brokers import (
    FileEventBroker, KafkaEventBroker, PikaEventBroker, SQLEventBroker,
)
from ticketlock.server import Message, Settings, create_app
from ticketlock.stores import (
    DynamoTrackerStore, InMemoryTrackerStore, MongoTrackerStore, RedisTrackerStore, SQLTrackerStore,
)

lock = ConcurrentRedisLockStore(host="h", port=6379, db=1, lease=4, deployment_mode="cluster")
twin: SyncLockStore = lock.sync()
RedisLockStore(url="redis://h", max_waiting=3, password=None)
InMemoryLockStore(max_waiting=3)
RedisTrackerStore(host="h", record_exp=60.0)
SQLTrackerStore(dialect="postgresql", host="h", pool_size=3, query={"application_name": "a"})
MongoTrackerStore(url="mongodb://h", db="rasa")
DynamoTrackerStore(region="eu-west-1")
InMemoryTrackerStore()
KafkaEventBroker("a:1", topic="t", security_protocol="SASL_SSL")
KafkaEventBroker(["a:1", "b:2"], queue_size=3)
PikaEventBroker("h", "u", "p", queues=["a"], port=5672)
SQLEventBroker("sqlite", db="events.db")
FileEventBroker("events.log")
Settings(double_texting="reject", max_turns=3)
"""

#: A wrong line -> a word of what mypy says of it.
WRONG = {
    "ConcurrentRedisLockStore(prot=1)": '"prot"',
    'ConcurrentRedisLockStore(port="many")': '"port"',
    "RedisLockStore(lese=4)": '"lese"',
    'ConcurrentRedisLockStore(deployment_mode="clusters")': '"deployment_mode"',
    "RedisTrackerStore(lease=4)": '"lease"',
    "SQLTrackerStore(dialcet=4)": '"dialcet"',
    "MongoTrackerStore(port=4)": '"port"',
    "DynamoTrackerStore(host=4)": '"host"',
    "InMemoryTrackerStore(url=4)": '"url"',
    'KafkaEventBroker("a:1", security_protocol="TLS")': '"security_protocol"',
    'PikaEventBroker("h", queue="a")': '"queue"',
    'SQLEventBroker("sqlite", path="a")': '"path"',
    'FileEventBroker(pth="a")': '"pth"',
    'Settings(double_texting="drop")': '"double_texting"',
}


#: Module -> a name that it has not, although names are imported late.
ABSENT = {
    "ticketlock": "ConcurentRedisLockStore",
    "ticketlock.stores": "SqlTrackerStore",
    "ticketlock.brokers": "KafkaBroker",
    "ticketlock.server": "make_app",
}


@pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")
def test_keys_and_names_are_typed(tmp_path: Path) -> None:
    """Right lines pass; each wrong keyword, value and name is an error that names it."""
    imports = [f"from {module} import {name}" for module, name in ABSENT.items()]
    wrong = {**dict(zip(imports, ABSENT.values(), strict=True)), **WRONG}
    said = _mypy(tmp_path, GOOD + "\n".join(wrong))
    for line, (code, word) in enumerate(wrong.items(), GOOD.count("\n") + 1):
        (about,) = (text for text in said if text.startswith(f"theirs.py:{line}: error"))
        assert word in about, (code, about)
    assert said[-1].startswith(f"Found {len(wrong)} errors"), said


def _mypy(folder: Path, code: str) -> list[str]:
    """Its lines about a module of somebody who has the package installed, laid out as a wheel."""
    package = folder / "ticketlock"
    shutil.copytree(ROOT / "ticketlock", package)
    for name in ("stores", "brokers"):
        shutil.copytree(ROOT / name, package / name)
    (folder / "theirs.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-site-packages", "--follow-imports=silent",
         "--ignore-missing-imports", "--cache-dir", os.devnull, "--config-file=", "theirs.py"],
        cwd=folder, env={**os.environ, "MYPYPATH": str(folder)}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode < 2, done.stdout + done.stderr
    return done.stdout.splitlines()
