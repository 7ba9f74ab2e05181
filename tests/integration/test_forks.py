"""What was made before a fork, in the child: locks work, tickets and turns are the parent's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers.tracker_stores import TRACKER_STORES

from ticketlock.redis.embedded import EmbeddedRedis

PREAMBLE = """
import asyncio, os, sys, threading, time, traceback
from ticketlock import *
kind = {
    "concurrent_redis": ConcurrentRedisLockStore, "redis": RedisLockStore,
    "in_memory": InMemoryLockStore,
}[sys.argv[2]]
make = (lambda: kind()) if kind is InMemoryLockStore else (lambda: kind(url=sys.argv[1]))
def in_child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        os._exit(1)
"""

SYNC = """
store = make().sync()
early, ahead = store.lock("early", wait_timeout=5), store.lock("ahead", wait_timeout=5)
conversations = Conversations(make()).sync()
turn = conversations.turn("turn", wait_timeout=5)
with store.lock("warm-up"): pass
with conversations.turn("warm-up") as warm: warm.add({"event": "user", "text": "hello"})
ahead.queue()
release = threading.Event()
def hold():
    with store.lock("held"): release.wait()
holder = threading.Thread(target=hold); holder.start()
time.sleep(0.2)
owner = conversations.conversations.owner

def child():
    with early as grant:
        time.sleep(0.1)
        grant.ensure_held()
        if kind is not InMemoryLockStore:
            other = make().sync()
            with other.try_lock("early") as second: print("held", second is None)
            other.close()
    with store.lock("early", wait_timeout=0.5): print("free at once")
    with turn:
        turn.add({"event": "user", "text": "hello"})
    print("turn", conversations.conversations.owner != owner)
    try:
        ahead.__enter__()
    except LockError as error:
        print("ahead", "before the fork" in str(error))
    with store.try_lock("held") as grant:
        # In memory each process has its own locks; the parent's thread is not in the child.
        print("parent's turn", (grant is not None) == (kind is InMemoryLockStore))
    if kind is not ConcurrentRedisLockStore:
        with store.lock("long") as grant: time.sleep(6); grant.ensure_held()
    conversations.close(); store.close()

in_child(child)
release.set(); holder.join()
with ahead: print("parent")
with early: print("parent too")
store.close(); conversations.close()
"""

ASYNC = """
store = make()
early, turns = store.lock("early", wait_timeout=5), Conversations(make())
async def warm_up():
    async with store.lock("warm-up"): pass
    await store.lock("held").acquire()
asyncio.run(warm_up())
async def use():
    async with early as grant:
        await asyncio.sleep(0.1)
        grant.ensure_held()
    async with store.lock("early", wait_timeout=0.5): print("free at once")
    async with turns.turn("turn") as turn: turn.add({"event": "user", "text": "hello"})
    await turns.close(); await store.close()
in_child(lambda: asyncio.run(use()))
print("good")
"""


def run(text: str, *args: str) -> str:
    words = [sys.executable, "-W", "ignore", "-c", PREAMBLE + text, *args]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost the lock of conversation 'early'" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["concurrent_redis", "redis", "in_memory"])
def test_threads(own_redis: EmbeddedRedis, kind: str) -> None:
    """Locks, turns and stores of the parent, in use there, work in the child."""
    lines = run(SYNC, own_redis.url, kind).splitlines()
    held = [] if kind == "in_memory" else ["held True"]
    assert lines == [
        *held, "free at once", "turn True", "ahead True", "parent's turn True", "parent",
        "parent too",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["concurrent_redis", "redis", "in_memory"])
def test_event_loops(own_redis: EmbeddedRedis, kind: str) -> None:
    """The same without threads, for locks that were made before any loop ran."""
    assert run(ASYNC, own_redis.url, kind).splitlines() == ["free at once", "good"]


INHERITED = """
store = make()
async def main():
    async with store.lock("held") as grant:
        link = store.engine().link
        def child():
            store.answer(grant, {"message": "reply"})
            try: link.submit(("PING",))
            except LockStoreConnectionError: print("refused")
            link.abandon()
        in_child(child)
        for _ in range(3):  # an answer to the child would be taken for one of these
            print(await link.call(("ECHO", "parent")))
        grant.ensure_held()
    await asyncio.sleep(0.1)
    print(link.connects)
    await store.close()
asyncio.run(main())
"""


def test_a_child_writes_nothing_on_a_connection_of_the_parent(own_redis: EmbeddedRedis) -> None:
    """Not even what is sent without waiting, under a turn that it has a copy of."""
    lines = run(INHERITED, own_redis.url, "concurrent_redis").splitlines()
    assert lines == ["refused", *3 * ["b'parent'"], "1"]


POOL = """
import multiprocessing
store = make().sync()
lock = store.lock("early", wait_timeout=20)
def work(_):
    with lock as grant:
        time.sleep(0.05)
        grant.ensure_held()
    return grant.number
if __name__ == "__main__":
    # A process for each task: each has its own copy of the lock.
    with multiprocessing.get_context("fork").Pool(3, maxtasksperchild=1) as pool:
        print(sorted(pool.map(work, range(6), chunksize=1)))
"""


def test_a_pool_of_forks_shares_a_lock(own_redis: EmbeddedRedis) -> None:
    """As a lock of `multiprocessing` does: each child has turns of its own, one at a time."""
    assert run(POOL, own_redis.url, "concurrent_redis") == "[1, 2, 3, 4, 5, 6]\n"


GUARDED = """
from ticketlock.locks.concurrent import queue
from ticketlock.tracker import stored
guards = [queue._beginning, stored.changing]
held = threading.Event()
def hold():
    for guard in guards: guard.acquire()
    held.set()
    time.sleep(0.3)
    for guard in reversed(guards): guard.release()
holder = threading.Thread(target=hold); holder.start(); held.wait()
def child():
    print([guard.acquire(timeout=5) for guard in guards])
in_child(child)
holder.join()
print([guard.acquire(timeout=5) for guard in guards])
"""


def test_what_a_thread_guards_during_a_fork(own_redis: EmbeddedRedis) -> None:
    """The child does not wait for a thread that it has not."""
    lines = run(GUARDED, own_redis.url, "concurrent_redis").splitlines()
    assert lines == ["[True, True]"] * 2


TRACKED = """
import json
conversations = Conversations(None, json.loads(sys.argv[1])).sync()
def say(text):
    with conversations.turn("a") as turn: turn.add({"event": "user", "text": text})
    with conversations.turn("a") as turn: print(*(event.text for event in turn.tracker.events))
def child():
    say("child")
    conversations.close()
say("parent"); in_child(child); say("again"); in_child(lambda: say("another"))
conversations.close()
"""


@pytest.mark.parametrize("backend", sorted({*TRACKER_STORES} - {"memory"}))
def test_a_tracker_store_in_use(backend: str, tracker_sections: Any) -> None:
    """Its threads, connections, locks and what waits for them are the parent's."""
    said = run(TRACKED, json.dumps(tracker_sections(backend)), "in_memory").splitlines()
    texts = ["parent", "child", "again", "another"]
    assert said == [" ".join(texts[:count]) for count in range(1, 5)]


AT_WORK = """
import json, signal
conversations = Conversations(None, json.loads(sys.argv[1])).sync()
def say(name):
    with conversations.turn(name) as turn:
        turn.add({"event": "user", "text": "hello"})
        return len(turn.tracker.events)
say("a")
stop = threading.Event()
def work(name):
    while not stop.is_set(): say(name)
workers = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
for worker in workers: worker.start()
def child():
    signal.alarm(20)  # ends it without a word
    print(say("a"))
    conversations.close()
for _ in range(8): in_child(child)
stop.set()
for worker in workers: worker.join()
print(say("a"), say("x") > 1)
conversations.close()
"""


def test_threads_at_work_in_a_database(tmp_path: Path) -> None:
    """What SQLite's threads have locked at that moment, in memory or the file, is free in the child."""
    section = {"type": "sql", "db": str(tmp_path / "events.db")}
    said = run(AT_WORK, json.dumps(section), "in_memory").split()
    assert said == [*map(str, range(2, 10)), "10", "True"]


BROKER = """
from ticketlock.brokers.file import FileEventBroker
def used(broker, text):
    broker.publish({"event": "user", "text": text, "sender_id": "a"})
    asyncio.run(broker.close())
broker, unused = FileEventBroker(path=sys.argv[1]), FileEventBroker(path=sys.argv[1])
asyncio.run(broker.connect())
def child():
    for attempt in (lambda: broker.publish({}), lambda: asyncio.run(broker.connect())):
        try: attempt()
        except EventBrokerError as error: print("parent's" in str(error))
    asyncio.run(broker.close())
    used(unused, "child")
in_child(child)
used(broker, "parent")
print([json.loads(line)["text"] for line in open(sys.argv[1])])
"""


def test_an_event_broker(tmp_path: Path) -> None:
    """One that was in use is the parent's; one that was not can be used."""
    lines = run("import json\n" + BROKER, str(tmp_path / "events"), "in_memory").splitlines()
    assert lines == ["True", "True", "['child', 'parent']"]


EVENT_TABLES = """
import json
from ticketlock.brokers.sql import SQLEventBroker
from ticketlock.endpoints.registry import create_event_database
from ticketlock.event_service.records import Received
from ticketlock.publishing.message import BrokerMessage
import signal
section = {"dialect": "sqlite", "db": sys.argv[1]}
event = {"event": "user", "text": 500 * "text ", "sender_id": "a"}
numbers = iter(range(10**9))
async def deliver(broker, database):
    outcomes = await broker.deliver([BrokerMessage.of_event(event) for _ in range(20)], 10)
    assert {outcome.status for outcome in outcomes} == {"delivered"}, outcomes
def service():
    return create_event_database({"type": "sql", "dialect": "sqlite", "db": sys.argv[1] + ".service"})[1]
def received(name, number):
    return Received(name, 0, number, "user", 1.0, json.dumps(event), None, None)
async def store(broker, database):
    done = await database.store([received(str(os.getpid()), next(numbers)) for _ in range(20)], [])
    assert done.stored == 20, done
stop = threading.Event()
shared = service()
def work(use):
    async def on():
        broker, database = SQLEventBroker(**section), shared
        while not stop.is_set(): await use(broker, database)
        await broker.close(); await database.close()
    asyncio.run(on())
workers = [threading.Thread(target=work, args=(use,)) for use in (deliver, store)]
for worker in workers: worker.start()
time.sleep(0.5)
def child():
    signal.alarm(20)  # ends it without a word
    async def use():
        broker = SQLEventBroker(**section)
        for database in (shared, service()):
            await deliver(broker, database); await store(broker, database)
            await database.close()
        await broker.close()
    asyncio.run(use())
for _ in range(10): in_child(child)
stop.set()
for worker in workers: worker.join()
print("good")
"""


def test_event_tables_in_use(tmp_path: Path) -> None:
    """A broker and a service's database on SQLite are at work; the child has others, or the same."""
    assert run(EVENT_TABLES, str(tmp_path / "events.db"), "in_memory") == "good\n"
