"""A process that runs out of files or threads for a while: what failed then works afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from ticketlock.redis.embedded import EmbeddedRedis

#: Uses up what the process may have, uses a lock, gives it back, and uses the lock for longer than a
#: lease. How many files are left decides what cannot be made: a connection, or a thread's event loop.
FILES = """
import os, resource

class exhausted:
    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        self.files = []
        try:
            while True:
                self.files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(int(sys.argv[2])):
                os.close(self.files.pop())
    def __exit__(self, *error):
        for file in self.files:
            os.close(file)
"""
THREADS = """
import resource

class exhausted:
    def __enter__(self):
        threading.stack_size(1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (900 << 20, -1))
    def __exit__(self, *error):
        threading.stack_size(0)
"""
ASYNC = """
async def main():
    store = ConcurrentRedisLockStore(url=sys.argv[1], lease=1, waiter_ttl=1)
    with exhausted():
        try:
            async with store.lock("c", wait_timeout=2):
                pass
        except (LockStoreConnectionError, OSError) as error:
            print("refused", error)
    async with store.lock("c", wait_timeout=5) as grant:
        await asyncio.sleep(2.5)
        grant.ensure_held()
    await store.close()
    print("held")

asyncio.run(main())
"""
THREADED = """
store = ConcurrentRedisLockStore(url=sys.argv[1], lease=1, waiter_ttl=1).sync()
with exhausted():
    try:
        with store.lock("c", wait_timeout=2):
            pass
    except (LockStoreConnectionError, OSError) as error:
        print("refused", error)
with store.lock("c", wait_timeout=5) as grant:
    time.sleep(2.5)
    grant.ensure_held()
store.close()
print("held")
"""


@pytest.mark.parametrize("use", [ASYNC, THREADED], ids=["async", "threaded"])
@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5, 6, "threads"])
def test_what_cannot_be_made_is_made_later(
    redis_server: EmbeddedRedis, use: str, left: int | str
) -> None:
    """The lock that lacks something is refused; the next one has its heartbeat.

    Also where it comes while a heartbeat that cannot start says so, in a log that takes its time.
    """
    head = """
        import asyncio, logging, sys, threading, time, encodings.idna
        from ticketlock import ConcurrentRedisLockStore, LockStoreConnectionError

        class Slow(logging.StreamHandler):
            def emit(self, record):
                time.sleep(0.5)
                super().emit(record)
        logging.getLogger("ticketlock").addHandler(Slow())
    """
    code = textwrap.dedent(head) + (THREADS if left == "threads" else FILES) + use
    done = subprocess.run(
        [sys.executable, "-c", code, redis_server.url, str(left)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("held\n"), done.stdout + done.stderr
