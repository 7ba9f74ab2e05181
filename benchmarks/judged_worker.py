"""A worker that takes turns on a peer's lock, for the checker: `python -m benchmarks.judged_worker FOLDER NAME`.

It does what a worker of `ticketlock stress` does: it waits for the file `go`, its tasks take turns and
write twice to a register in each, and record what they do before and after it. It runs in the
environment of its peer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import redis

from ticketlock.checker import Recorder
from ticketlock.process import clock
from ticketlock.redis.scripts import load
from ticketlock.stress.plan import Plan
from ticketlock.stress.worker import READY

#: Seconds after the last turn in which those that wait may still be granted.
PATIENCE = 5.0
#: Seconds that a task waits after an error.
PAUSE = 0.05
EXPIRY = 3_600_000

#: Name -> adapter, and the lock that it makes of an adapter and a name; None: its default one.
VARIANTS: dict[str, tuple[str, Callable[[Any, str], Any] | None]] = {
    "ticketlock": ("ours", None),
    "redis-py": ("redis_py", None),
    "redis-py, timeout 5": ("redis_py", lambda a, name: a._client.lock(name, timeout=5)),
    "python-redis-lock": ("python_redis_lock", None),
    "python-redis-lock, expire 5, renewed": (
        "python_redis_lock",
        lambda a, name: import_module("redis_lock").Lock(
            a._client, name, expire=5, auto_renewal=True
        ),
    ),
    "redis-fifo-lock": ("redis_fifo_lock", None),
    "redis-fifo-lock, lease 5": (
        "redis_fifo_lock",
        lambda a, name: (
            import_module("redis_fifo_lock").FifoLock(a._client, name, lease_ms=5000).hold()
        ),
    ),
    "pottery": ("pottery", None),
    "redis-lock-py": ("redis_lock_py", None),
    "redis-lock-py, expire 5": (
        "redis_lock_py",
        lambda a, name: import_module("redis_lock.asyncio").RedisLock(
            a._client, name, expire_timeout=5
        ),
    ),
}


class Task:
    """One task, which is a process to the checker."""

    def __init__(self, folder: Path, name: str, plan: Plan, adapter: Any) -> None:
        self.name, self._plan, self._adapter = name, plan, adapter
        self._make = VARIANTS[plan.where][1]
        self._chance = random.Random(f"{plan.seed} {name}")
        self._recorder = Recorder(folder / f"{name.replace('/', '-')}.jsonl")
        assert plan.register is not None  # a server of its own
        self._registers = redis.Redis.from_url(plan.register["url"])
        self._script = self._registers.register_script(load("register").source)

    def steps(self, end: float) -> Any:
        """What to do next: seconds to wait, or an awaitable; in threads a function."""
        following = clock() + self._chance.uniform(0, self._plan.pause)
        while following < end:
            yield max(0.0, following - clock())
            following = max(clock(), following + self._plan.pause)

    def lock(self) -> tuple[str, Any]:
        """A conversation by chance, and its lock."""
        name = self._chance.choice(self._plan.names)
        return name, (self._make(self._adapter, name) if self._make else self._adapter.lock(name))

    def acquires(self, conversation: str) -> Any:
        return self._recorder.invoke("acquire", self.name, conversation)

    def releases(self, conversation: str) -> Any:
        return self._recorder.invoke("release", self.name, conversation)

    def pause(self) -> float:
        return self._chance.uniform(0, self._plan.hold / 2)

    def write(self, conversation: str, fence: int | None) -> bool:
        """Write; whether it was accepted. The register is on a server that no nemesis troubles."""
        call = self._recorder.invoke("write", self.name, conversation, fence=fence)
        place = int(self._script(keys=[f"stress_lock:{conversation}"], args=[fence or 0, EXPIRY]))
        if place < 0:
            call.fail()
            return False
        call.ok(position=place)
        return True

    async def run(self, end: float) -> None:
        for wait in self.steps(end):
            await asyncio.sleep(wait)
            conversation, lock = self.lock()
            call = self.acquires(conversation)
            try:
                async with lock as held:
                    fence = getattr(held, "fence", None)
                    call.ok(fence=fence)
                    call = None
                    for _ in range(2):
                        await asyncio.sleep(self.pause())
                        if lost(held) or not self.write(conversation, fence):
                            break
                    call = self.releases(conversation)
                call.ok()
            except Exception:  # noqa: BLE001  # each peer has its own
                if call is not None:
                    call.unknown()  # it may hold the lock all the same
                await asyncio.sleep(PAUSE)

    def run_thread(self, end: float) -> None:
        for wait in self.steps(end):
            time.sleep(wait)
            conversation, lock = self.lock()
            call = self.acquires(conversation)
            try:
                with lock:
                    call.ok()
                    call = None
                    for _ in range(2):
                        time.sleep(self.pause())
                        self.write(conversation, None)
                    call = self.releases(conversation)
                call.ok()
            except Exception:  # noqa: BLE001  # each peer has its own
                if call is not None:
                    call.unknown()  # it may hold the lock all the same
                time.sleep(PAUSE)


def lost(held: Any) -> bool:
    """Whether a lock that tells says that it is lost."""
    event: Any = getattr(held, "lost", None)
    return bool(event.is_set()) if hasattr(event, "is_set") else False


def go(folder: Path) -> float:
    """The moment of `clock()` at which turns are begun no more."""
    print(READY, flush=True)
    while not (folder / "go").exists():
        time.sleep(0.02)
    return float((folder / "go").read_text())


async def serve(folder: Path, tasks: list[Task], adapter: Any) -> None:
    while True:
        try:
            await adapter.open()
            break
        except Exception:  # noqa: BLE001  # its server is troubled just now
            await asyncio.sleep(PAUSE)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: time.sleep(float((folder / "block").read_text()))
    )
    end = await loop.run_in_executor(None, go, folder)
    running = [asyncio.ensure_future(task.run(end)) for task in tasks]
    await asyncio.wait(running, timeout=end + PATIENCE - clock())


def serve_threads(folder: Path, tasks: list[Task], adapter: Any) -> None:
    """A thread has no event loop to block: SIGUSR1 does nothing here."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    while True:
        try:
            adapter.open()
            break
        except Exception:  # noqa: BLE001  # its server is troubled just now
            time.sleep(PAUSE)
    end = go(folder)
    threads = [threading.Thread(target=task.run_thread, args=[end], daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + PATIENCE - clock()))


def main() -> None:
    folder, worker = Path(sys.argv[1]), sys.argv[2]
    plan = Plan.read(folder / "plan")
    module = import_module(f"benchmarks.adapters.{VARIANTS[plan.where][0]}")
    adapter = module.Adapter(plan.lock_store["url"])
    tasks = [Task(folder, f"{worker}/{i}", plan, adapter) for i in range(plan.tasks)]
    if adapter.asynchronous:
        asyncio.run(serve_and_leave(folder, tasks, adapter))
    else:
        serve_threads(folder, tasks, adapter)
    os._exit(0)  # what waits for ever is not waited for


async def serve_and_leave(folder: Path, tasks: list[Task], adapter: Any) -> None:
    await serve(folder, tasks, adapter)
    os._exit(0)


if __name__ == "__main__":
    main()
