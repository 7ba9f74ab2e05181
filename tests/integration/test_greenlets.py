"""The threaded twin where threads are greenlets: gevent works, eventlet is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ticketlock.redis.embedded import EmbeddedRedis, free_port

TESTS = Path(__file__).parent.parent


def run(text: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    words = [sys.executable, "-W", "ignore", "-c", text, *args]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


STORES = """
import sys
from ticketlock import *
url = sys.argv[1]
one, two = ConcurrentRedisLockStore(url=url).sync(), ConcurrentRedisLockStore(url=url).sync()
polling = RedisLockStore(url=url).sync()
conversations = Conversations(ConcurrentRedisLockStore(url=url)).sync()
"""

USE = """
import gevent
order, ticks = [], []
def tick():
    while True: ticks.append(1); gevent.sleep(0.005)
def work(number):
    with (one, two)[number % 2].lock("c") as grant:
        order.append(grant.number)
        gevent.sleep(0.002)
    with conversations.turn("c2") as turn:
        turn.add({"event": "user", "text": "hello"})
gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, number) for number in range(60)], raise_error=True)
with polling.lock("p") as grant: grant.ensure_held()
print("in order", order == sorted(order), len(order), "others ran", len(ticks) > 9)

before = len(ticks)
with one.lock("c") as grant, polling.lock("p") as slow:
    gevent.sleep(6)  # longer than both leases: the heartbeats run
    grant.ensure_held(); slow.ensure_held()
print("held", len(ticks) - before > 100)

held = one.lock("c"); held.__enter__()
waiting = gevent.spawn(lambda: one.lock("c").__enter__())
gevent.sleep(0.2); waiting.kill(); gevent.sleep(0.1)
print("killed", one.inspect("c").waiting_count)
def bounded():
    with gevent.Timeout(0.2, False):
        one.lock("c").__enter__()
gevent.spawn(bounded).join()
gevent.sleep(0.1)
print("timed out", one.inspect("c").waiting_count)
try:
    one.lock("c").__enter__()
except AlreadyHeld:
    print("told")
held.__exit__(None, None, None)
for store in one, two, polling, conversations: store.close()
print("closed")
"""

EXPECTED = """in order True 60 others ran True
held True
killed 0
timed out 0
told
closed
"""


def test_gevent(own_redis: EmbeddedRedis) -> None:
    """Any number of stores; greenlets wait without blocking others, and may be killed."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    done = run(patch + STORES + USE, own_redis.url)
    assert (done.returncode, done.stdout) == (0, EXPECTED), done.stderr


def test_gevent_patched_after_the_import(own_redis: EmbeddedRedis) -> None:
    """As in a gunicorn worker with --preload; stores that were made before are used after."""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    done = run(STORES + patch + USE, own_redis.url)
    assert (done.returncode, done.stdout) == (0, EXPECTED), done.stderr


def test_gevent_without_patched_threads(own_redis: EmbeddedRedis) -> None:
    """Greenlets of one thread still let each other run, and are told apart."""
    done = run(STORES + USE, own_redis.url)
    assert (done.returncode, done.stdout) == (0, EXPECTED), done.stderr


@pytest.mark.parametrize(
    "worker", [("gevent",), ("gevent", "--preload"), ("gthread", "--threads=8")], ids=" ".join
)
def test_gunicorn(own_redis: EmbeddedRedis, worker: tuple[str, ...]) -> None:
    """Both workers answer all requests, each with a ticket of its own, and SIGTERM ends them."""
    port = free_port()
    kind, *options = worker
    words = ["-k", kind, "-w", "2", "-b", f"127.0.0.1:{port}", "--no-control-socket", *options]
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "gunicorn", *words, "servers.wsgi_app:app"],
        cwd=TESTS,
        env={**os.environ, "TICKETLOCK_TEST_REDIS": own_redis.url},
        stdin=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            end = time.monotonic() + 30
            while True:
                try:
                    client.get("/")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < end, "gunicorn does not answer"
                    time.sleep(0.1)
            with ThreadPoolExecutor(16) as executor:
                answers = list(executor.map(lambda _: client.get("/"), range(80)))
        assert [answer.status_code for answer in answers] == [200] * 80
        numbers = [int(answer.text.split()[1]) for answer in answers]
        assert len(set(numbers)) == 80
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()


def test_eventlet_is_refused(own_redis: EmbeddedRedis) -> None:
    """At once, with what to do, at the first use of any twin, and nothing hangs at the end."""
    text = """
import eventlet; eventlet.monkey_patch()
import sys
from ticketlock import *
for twin in (
    ConcurrentRedisLockStore(url=sys.argv[1]).sync().lock("c"),
    InMemoryLockStore().sync().try_lock("c"),
    Conversations().sync().turn("c"),
):
    try:
        twin.__enter__()
    except ConfigurationError as error:
        print("gevent" in str(error), "gthread" in str(error))
"""
    done = run(text, own_redis.url)
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 6), done.stderr
