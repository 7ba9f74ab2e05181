"""The end of the interpreter, and stores that are dropped: nothing hangs, nothing stays."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import pytest
from servers import dynamo

from ticketlock import ConcurrentRedisLockStore, LockStore, RedisLockStore
from ticketlock.redis.embedded import EmbeddedRedis

ON_REDIS: dict[str, type[LockStore]] = {
    "redis": RedisLockStore,
    "concurrent_redis": ConcurrentRedisLockStore,
}

PREAMBLE = """
import atexit, sys, threading, time
from ticketlock import *
def make():
    if sys.argv[2] == "in_memory":
        return InMemoryLockStore()
    return {"redis": RedisLockStore, "concurrent_redis": ConcurrentRedisLockStore}[sys.argv[2]](
        url=sys.argv[1]
    )
store = make().sync()
"""

#: What a program may have left when it ends. Each is run at module level.
LEFT = {
    "generator in a with": """
        def suspended():
            with store.lock("c"):
                yield
        left = suspended(); next(left)
    """,
    "generator in a with of a dropped twin": """
        def suspended():
            with make().sync().lock("c"):
                yield
        left = suspended(); next(left)
    """,
    "generator in a turn": """
        conversations = Conversations(make()).sync()
        def suspended():
            with conversations.turn("c") as turn:
                turn.add({"event": "user", "text": "hello"})
                yield
        left = suspended(); next(left)
    """,
    "generator in a cycle": """
        import gc; gc.disable()
        def suspended(me):
            with store.lock("c"):
                yield
        me = []; me.append(suspended(me)); next(me[0]); del me
    """,
    "__del__ that closes": """
        class App:
            def __del__(self):
                self.store.close()
        app = App(); app.store = store
        with store.lock("c"): pass
    """,
    "__del__ that locks": """
        class App:
            def __del__(self):
                try:
                    with self.store.lock("c"): pass
                except LockError as error:
                    assert "interpreter is shutting down" in str(error)
        app = App(); app.store = store
        with store.lock("c"): pass
    """,
    "atexit close": """
        with store.lock("c"): pass
        atexit.register(store.close)
    """,
    "atexit close of an unused one": """
        atexit.register(store.close)
    """,
    "a turn nobody ends": """
        store.lock("c").__enter__()
    """,
    "a daemon thread that waits": """
        store.lock("c").__enter__()
        threading.Thread(target=lambda: store.lock("c").__enter__(), daemon=True).start()
        time.sleep(0.2)
    """,
}


def run(text: str, *args: str, seconds: float = 60) -> str:
    """Run a program to its end; what it has printed and logged."""
    words = [sys.executable, "-W", "default", "-c", text, *args]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


#: Of the other kinds of lock stores, those in which a turn is left, or is waited for.
OF_OTHERS = (
    "generator in a with", "__del__ that locks", "a turn nobody ends", "a daemon thread that waits",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["concurrent_redis", "redis", "in_memory"])
def test_nothing_hangs_and_nothing_is_held(own_redis: EmbeddedRedis, kind: str) -> None:
    """The program ends, without a traceback, and its turn is free at once, not after a lease."""
    start = [sys.executable, "-W", "default", "-c"]
    left = LEFT if kind == "concurrent_redis" else {name: LEFT[name] for name in OF_OTHERS}
    urls = [f"{own_redis.url[:-1]}{number}" for number in range(len(left))]
    programs = {
        name: subprocess.Popen(
            [*start, PREAMBLE + textwrap.dedent(text), url, kind],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for url, (name, text) in zip(urls, left.items(), strict=True)
    }
    try:
        for url, (name, program) in zip(urls, programs.items(), strict=True):
            output = program.communicate(timeout=60)[0]
            assert program.returncode == 0, (name, output)
            assert "Traceback" not in output, (name, output)
            assert "unclosed" not in output, (name, output)
            if kind in ON_REDIS:
                with ON_REDIS[kind](url=url).sync() as store, store.try_lock("c") as grant:
                    assert grant is not None, name
    finally:
        for program in programs.values():
            program.kill()
            program.wait()
            assert program.stdout is not None
            program.stdout.close()


STORES = {
    "sqlite": "{'type': 'sql', 'db': sys.argv[3] + '/bot.db'}",
    "redis": "{'type': 'redis', 'url': sys.argv[1]}",
    "dynamo": "{'type': 'dynamo', 'endpoint_url': sys.argv[4], 'region': 'us-east-1'}",
}


@pytest.mark.parametrize("kind", STORES)
def test_a_program_that_closes_nothing(kind: str, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """Its stores are closed and its events published as it ends, and nothing is logged."""
    program = f"""
        import logging; logging.basicConfig(level=logging.WARNING)
        broker = {{"type": "file", "path": sys.argv[3] + "/events"}}
        conversations = Conversations(make(), {STORES[kind]}, broker).sync()
        with conversations.turn("c") as turn:
            turn.add({{"event": "user", "text": "hello"}})
    """
    text = PREAMBLE + textwrap.dedent(program)
    with dynamo.url() if kind == "dynamo" else nullcontext("") as url:
        assert run(text, own_redis.url, "concurrent_redis", str(tmp_path), url) == ""
    assert '"text": "hello"' in (tmp_path / "events").read_text()


DROPPED = """
import asyncio, gc, sys, threading, time
import psutil
from ticketlock import *
url, process = sys.argv[1], psutil.Process()
def left():
    gc.collect()
    return len(process.threads()), len(process.net_connections())
def back(before):
    end = time.monotonic() + 30
    while left() > before and time.monotonic() < end: time.sleep(0.05)
    print(left() <= before or (before, left()))
def lock(store):
    with store.lock("c"): pass
def turn(conversations):
    with conversations.turn("c") as turn: turn.add({"event": "user", "text": "hello"})
for count, make, use in (
    (100, lambda: ConcurrentRedisLockStore(url=url).sync(), lock),
    (20, lambda: RedisLockStore(url=url).sync(), lock),
    (20, lambda: InMemoryLockStore().sync(), lock),
    (20, lambda: Conversations(ConcurrentRedisLockStore(url=url)).sync(), turn),
):
    before = left()
    for _ in range(count): use(make())
    back(before)
async def main():
    for kind in ConcurrentRedisLockStore, RedisLockStore:
        before = left()
        for _ in range(50):
            async with kind(url=url).lock("c"): pass
        end = time.monotonic() + 30
        while left() > before and time.monotonic() < end: await asyncio.sleep(0.05)
        print(left() <= before or (before, left()))
asyncio.run(main())
"""


def test_a_dropped_store_leaves_nothing(own_redis: EmbeddedRedis) -> None:
    """Of those that nobody closed, a hundred of one kind: threads and connections are those of before."""
    assert run(DROPPED, own_redis.url, seconds=250).split() == ["True"] * 6


def test_a_lock_keeps_its_dropped_store(own_redis: EmbeddedRedis) -> None:
    """`with make().sync().lock(...)`, also in a turn: it is dropped after the block only."""
    text = """
import gc, sys, time
from ticketlock import *
url = sys.argv[1]
for _ in range(3):
    with ConcurrentRedisLockStore(url=url).sync().lock("c") as grant:
        gc.collect(); time.sleep(0.1)
        grant.ensure_held()
    with Conversations(ConcurrentRedisLockStore(url=url)).sync().turn("c") as turn:
        gc.collect(); time.sleep(0.1)
        turn.add({"event": "user", "text": "hello"})
        turn.commit()
store = ConcurrentRedisLockStore(url=url)
for _ in range(20):
    with store.sync().lock("c"): pass
print("good")
"""
    assert run(text, own_redis.url) == "good\n"


def test_a_finalizer_may_run_on_the_twins_own_thread(own_redis: EmbeddedRedis) -> None:
    """Garbage is collected on any thread: there, leaving a turn and closing do not wait."""
    text = """
import asyncio, sys, time
from ticketlock import *
store = ConcurrentRedisLockStore(url=sys.argv[1]).sync()
lock = store.lock("c"); lock.__enter__()
async def finalize():
    lock.__exit__(None, None, None)
    try:
        store.inspect("c")
    except LockStoreConnectionError as error:
        print("event loop" in str(error))
store._portal.run(finalize)
with store.lock("c", wait_timeout=3): print("free")
async def close():
    store.close()
store._portal.run(close)
with store.lock("c", wait_timeout=3): print("anew")
"""
    assert run(text, own_redis.url).split() == ["True", "free", "anew"]


INTERRUPTED = """
import asyncio, os, signal, sys, threading
from ticketlock import *
url, kind = sys.argv[1:3]
kind = {"concurrent_redis": ConcurrentRedisLockStore, "redis": RedisLockStore}.get(kind)
async def main():
    store = InMemoryLockStore() if kind is None else kind(url=url)
    async def work():
        async with store.lock("c"): await asyncio.sleep(100)
    tasks = [asyncio.create_task(work()) for _ in range(10)]
    await asyncio.sleep(0.3)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(100)
    finally:
        await store.close()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("kind", ["concurrent_redis", "redis", "in_memory"])
def test_an_interrupt_leaves_no_complaints(own_redis: EmbeddedRedis, kind: str) -> None:
    """Ctrl-C while tasks wait and one has the turn; the program closes the store, as it should."""
    output = run(INTERRUPTED, own_redis.url, kind)
    assert "interrupted" in output
    assert "never retrieved" not in output
    assert "never awaited" not in output
