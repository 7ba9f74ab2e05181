"""The pages in `docs/how-to/` show the examples as they are, and those keep what they say.

LangGraph's examples are tested in `test_langgraph.py`, those of chat platforms in
`test_webhooks.py`, the other ones of `docs/examples/` in `test_server_examples.py`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from how_to_pages import PAGES, shown
from servers.examples import EXAMPLES, environment
from servers.processes import child
from servers.twice import twice

from ticketlock import ConcurrentRedisLockStore, Conversations
from ticketlock.redis.embedded import EmbeddedRedis


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_shows_the_example(page: Path) -> None:
    """Word for word; `python tests/how_to_pages.py` copies the examples into the pages."""
    assert shown(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_complete(page: Path) -> None:
    """A page has code, how to run it, what it guarantees and what it does not."""
    text = page.read_text()
    for heading in ("Run it", "What it guarantees", "What it does not"):
        assert f"\n## {heading}\n" in text
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_no_example_is_left_out() -> None:
    """Every example is named in a test."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for example in EXAMPLES.glob("*.py"):
        assert re.search(rf"\b{example.stem}\b", tests), example


@pytest.fixture
def example(
    redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    """Imports an example, in a folder of the test's own."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield import_module
    for name in {path.stem for path in EXAMPLES.glob("*.py")} - before:
        sys.modules.pop(name, None)


def history(folder: Path, conversation: str) -> list[str]:
    """The texts that an example has stored."""
    with Conversations(None, {"type": "sql", "db": str(folder / "bot.db")}).sync() as conversations:
        found = conversations.retrieve(conversation)
    events = [] if found is None else [event.as_dict() for event in found.events]
    return [event["text"] for event in events if event["event"] in ("user", "bot")]


def pairs(texts: list[str]) -> list[str]:
    """What is stored of messages that were counted in that order."""
    return [said for n, t in enumerate(texts) for said in (t, f"message {n + 1}: {t}")]


def post_all(post: Callable[[str], tuple[int, Any]], folder: Path, conversation: str) -> None:
    """Twelve messages at once, each sent twice: each has one reply, and its place in the history."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, [str(number // 2) for number in range(24)]))
    assert {status for status, _ in answers} == {200}
    assert answers[::2] == answers[1::2]
    texts = history(folder, conversation)[::2]
    assert sorted(texts, key=int) == [str(number) for number in range(12)]
    assert history(folder, conversation) == pairs(texts)


def test_fastapi(
    example: Callable[[str], Any], tmp_path: Path, redis_server: EmbeddedRedis
) -> None:
    """Requests that come at once are handled one by one; who waits in vain gets 429."""
    from fastapi.testclient import TestClient  # late: every worker of the suite imports this file

    module = example("fastapi_turns")
    with TestClient(module.app) as client:

        def post(text: str) -> tuple[int, Any]:
            sent = {"message_id": text, "text": text}
            answer = client.post("/conversations/fastapi/messages", json=sent)
            return answer.status_code, answer.json()

        post_all(post, tmp_path, "fastapi")
        refused_when_full(lambda: post("late"), redis_server, "fastapi")


def test_flask(example: Callable[[str], Any], tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    """Threads that send at once are served one by one; who waits in vain gets 429."""
    module = example("flask_app")

    def post(text: str) -> tuple[int, Any]:
        sent = {"message_id": text, "message": text}
        answer = module.app.test_client().post("/messages/flask/x", json=sent)
        return answer.status_code, answer.get_json()

    try:
        post_all(post, tmp_path, "flask/x")
        refused_when_full(lambda: post("late"), redis_server, "flask/x")
    finally:
        module.conversations.close()


def refused_when_full(
    post: Callable[[], tuple[int, Any]], redis: EmbeddedRedis, conversation: str
) -> None:
    """A message for which there is no place is answered 429, and handled when it comes again."""
    with ConcurrentRedisLockStore(url=redis.url).sync() as store:
        locks = [store.lock(conversation) for _ in range(101)]
        for lock in locks:
            lock.queue()
        status, body = post()
        assert status == 429
        assert "100 tickets already wait" in body["error"]
        for lock in locks:
            lock.withdraw()
    assert post()[0] == 200


@contextmanager
def celery_worker(redis: EmbeddedRedis, folder: Path) -> Iterator[None]:
    """The worker, as the page runs it."""
    log = folder / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "4"]
    # Warnings of Celery's own dependencies are not ours.
    variables = environment(redis, PYTHONPATH=str(EXAMPLES), CELERY_BROKER_URL=redis.url)
    variables |= {"PYTHONWARNINGS": "default", "C_FORCE_ROOT": "yes"}
    with child(command, lambda: True, log, cwd=folder, env=variables):
        yield


def test_celery(
    own_redis: EmbeddedRedis,
    example: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Tasks of one conversation run one at a time, and the work of a killed process is repeated."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    monkeypatch.setenv("CELERY_BROKER_URL", own_redis.url)
    handle = example("celery_tasks").handle
    with celery_worker(own_redis, tmp_path):
        results = [handle.delay("celery", str(n // 2), str(n // 2)) for n in range(16)]
        replies = [result.get(timeout=60) for result in results]
        assert replies[::2] == replies[1::2]
        texts = history(tmp_path, "celery")[::2]
        assert sorted(texts) == [str(number) for number in range(8)]
        assert history(tmp_path, "celery") == pairs(texts)

        with ConcurrentRedisLockStore(url=own_redis.url).sync() as store:
            with store.lock("killed"):
                result = handle.delay("killed", "1", "text")
                end = time.monotonic() + 30
                while not (waiting := store.inspect("killed").waiting):
                    assert time.monotonic() < end
                    time.sleep(0.01)
                os.kill(waiting[0].process, signal.SIGKILL)
            assert result.get(timeout=60) == "message 1: text"
        assert history(tmp_path, "killed") == pairs(["text"])


#: Five messages at once without turns, and an event without a turn.
ALONE = """
import asyncio
from adk_sessions import *

async def main():
    async with DatabaseSessionService("sqlite+aiosqlite:///sessions.db") as sessions:
        session = await sessions.create_session(app_name="bot", user_id="u", session_id="s")
        runner = Runner(agent=Counter(name="counter"), app_name="bot", session_service=sessions)
        async def send(text):
            said = Content(role="user", parts=[Part(text=text)])
            return [e async for e in runner.run_async(user_id="u", session_id="s", new_message=said)]
        for found in await asyncio.gather(*map(send, "abcde"), return_exceptions=True):
            print(type(found).__name__)
    async with TurnSessionService("sqlite+aiosqlite:///sessions.db") as sessions:
        try:
            await sessions.append_event(session, Event(author="user"))
        except LookupError as error:
            print(error)

asyncio.run(main())
"""


def test_google_adk(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Two processes, five messages at once in each: ten replies. Without turns one of five."""
    said = twice(redis_server, tmp_path, "adk_sessions", "u", "both", *"abcde")
    numbers = sorted(int(reply.split()[1]) for reply in said[0] + said[1])
    assert numbers == list(range(1, 11))

    variables = environment(redis_server, PYTHONPATH=str(EXAMPLES))
    command = [sys.executable, "-c", ALONE]
    alone = subprocess.run(
        command,
        cwd=tmp_path,
        env=variables,
        timeout=150,
        check=True,
        capture_output=True,
        text=True,
    )
    *without, refused = alone.stdout.splitlines()
    assert sorted(without) == ["StaleSessionError"] * 4 + ["list"]
    assert "ContextVar name='turn'" in refused
