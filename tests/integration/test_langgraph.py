"""LangGraph's threads: what messages that come at once leave of one, with turns and without.

LangGraph is imported in the tests, because every worker of the suite imports this file.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from servers.examples import EXAMPLES
from servers.twice import twice

from ticketlock import ConcurrentRedisLockStore, LockLost, LockTimeout
from ticketlock.redis.embedded import EmbeddedRedis

NAMES = ("langgraph_double_texting", "langgraph_agent")
FIVE = ["m0", "m1", "m2", "m3", "m4"]


class Agent:
    """The example's graph in two replicas, on one file of checkpoints and one Redis.

    Its model replies `re: <text>`. To a message that begins with `slow` it does so when told to.

    Attributes:
        thread: the thread that all messages are for.
        asked: the texts that the model was given, one item a call.
    """

    def __init__(self, thread: str) -> None:
        self.thread = thread
        self.asked: list[list[str]] = []
        self.go_on = asyncio.Event()
        self.graphs: list[Any] = []
        self.locks: list[ConcurrentRedisLockStore] = []
        self.example = import_module("langgraph_double_texting")

    @property
    def config(self) -> dict[str, Any]:
        return {"configurable": {"thread_id": self.thread}}

    async def think(self, messages: list[Any]) -> str:
        """In place of the example's model."""
        text = str(messages[-1].content)
        self.asked.append([str(message.content) for message in messages])
        if text.startswith("slow"):
            await self.go_on.wait()
        return f"re: {text}"

    def send(self, text: str, mode: str = "enqueue", replica: int = 0) -> asyncio.Task[str]:
        """A message, whose id is its text, to the thread."""
        graph, locks = self.graphs[replica], self.locks[replica]
        return asyncio.create_task(self.example.send(graph, locks, self.thread, text, text, mode))

    async def begun(self, text: str) -> None:
        """Wait until the model is at work on a message."""
        while not any(asked[-1] == text for asked in self.asked):
            await asyncio.sleep(0.005)

    async def waiting(self, count: int) -> None:
        """Wait until that many messages wait for their turn."""
        while len((await self.locks[0].inspect(self.thread)).waiting) != count:
            await asyncio.sleep(0.005)

    async def history(self) -> list[str]:
        """The texts of the thread."""
        state = await self.graphs[0].aget_state(self.config)
        return [str(message.content) for message in state.values.get("messages", ())]


@pytest.fixture
def agent(
    redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """Makes an agent, inside of the test's event loop."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    @asynccontextmanager
    async def make() -> AsyncIterator[Agent]:
        made, module = Agent(tmp_path.name), import_module("langgraph_agent")
        monkeypatch.setattr(module, "think", made.think)
        async with AsyncExitStack() as stack:
            for _ in range(2):
                saver = module.TurnSaver.from_conn_string(str(tmp_path / "checkpoints.db"))
                checkpointer = await stack.enter_async_context(saver)
                made.graphs.append(module.builder.compile(checkpointer=checkpointer))
                locks = ConcurrentRedisLockStore(url=redis_server.url)
                made.locks.append(await stack.enter_async_context(locks))
            yield made

    yield make
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("locked", "left"), [(False, 2), (True, 10)])
async def test_five_messages_at_once(
    agent: Callable[[], Any], tmp_path: Path, locked: bool, left: int
) -> None:
    """Each run adds a message and a reply: without turns two entries are left, with them ten."""
    from langchain_core.messages import HumanMessage
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async def opens(made: Agent) -> None:
        for message in FIVE[:1] if locked else FIVE:  # all five have loaded the state by then
            await made.begun(f"slow {message}")
        made.go_on.set()

    async with agent() as made:
        graph = made.graphs[0]
        if locked:
            await asyncio.gather(*(made.send(f"slow {m}") for m in FIVE), opens(made))
        else:
            saver = AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db"))
            async with saver as plain:
                graph = import_module("langgraph_agent").builder.compile(checkpointer=plain)
                inputs = ({"messages": [HumanMessage(f"slow {m}")]} for m in FIVE)
                await asyncio.gather(*(graph.ainvoke(i, made.config) for i in inputs), opens(made))
        assert len(await made.history()) == left


def test_two_processes(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The example, in two processes at once, on one thread and file: nothing is lost."""
    said = twice(redis_server, tmp_path, "langgraph_agent", "both", *FIVE)
    numbers = [[int(line.split()[1]) for line in lines] for lines in said]
    assert sorted(numbers[0] + numbers[1]) == list(range(1, 11))
    assert [sorted(own) for own in numbers] == numbers  # each process's in the order it sent them


async def test_once(agent: Callable[[], Any]) -> None:
    """A message that is sent again, to another replica, gets the first reply."""
    async with agent() as made:
        first = made.send("slow a")
        await made.begun("slow a")
        second = made.send("slow a", replica=1)
        made.go_on.set()
        assert [await first, await second] == ["re: slow a"] * 2
        assert await made.send("slow a") == "re: slow a"
        assert await made.history() == ["slow a", "re: slow a"]


async def test_reject(agent: Callable[[], Any]) -> None:
    """A message that comes in the turn of another one is refused at once."""
    async with agent() as made:
        first = made.send("slow a")
        await made.begun("slow a")
        with pytest.raises(LockTimeout):
            await made.send("b", "reject", replica=1)
        made.go_on.set()
        await first
        assert await made.send("b", "reject", replica=1) == "re: b"
        assert await made.history() == ["slow a", "re: slow a", "b", "re: b"]


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize("mode", ["interrupt", "rollback"])
async def test_superseded(agent: Callable[[], Any], mode: str, replica: int) -> None:
    """The running turn and those that wait end at once; their messages are kept, or are not."""
    async with agent() as made:
        assert await made.send("a") == "re: a"
        slow = made.send("slow b")
        await made.begun("slow b")
        waits = made.send("c")
        await made.waiting(1)
        assert await made.send("d", mode, replica) == "re: d"
        assert [await slow, await waits] == ["", ""]
        kept = ["slow b", "c"] if mode == "interrupt" else []
        assert await made.history() == ["a", "re: a", *kept, "d", "re: d"]
        assert await made.send("slow b") == ""  # it has been dealt with


async def test_rollback_of_a_first_message(agent: Callable[[], Any]) -> None:
    """The thread is as new: nothing of the message is left."""
    async with agent() as made:
        slow = made.send("slow a")
        await made.begun("slow a")
        assert await made.send("b", "rollback", 1) == "re: b"
        assert await slow == ""
        assert await made.history() == ["b", "re: b"]


async def test_coalesce(agent: Callable[[], Any]) -> None:
    """What waits together, at any replica, is one run of the graph; the last one has the reply."""
    async with agent() as made:
        slow = made.send("slow a")
        await made.begun("slow a")
        tasks = []
        for number, text in enumerate("bcd"):
            tasks.append(made.send(text, "coalesce", number % 2))
            await made.waiting(number + 1)
        made.go_on.set()
        await slow
        assert [await task for task in tasks] == ["", "", "re: d"]
        assert made.asked[-1] == ["slow a", "re: slow a", "b", "c", "d"]
        assert len(made.asked) == 2


async def test_a_lost_turn_writes_nothing(agent: Callable[[], Any]) -> None:
    """The run is cancelled when its turn is broken, and a write without a turn is refused."""
    from langchain_core.messages import HumanMessage

    async with agent() as made:
        slow = made.send("slow a")
        await made.begun("slow a")
        before = await made.history()
        await made.locks[1].break_lock(made.thread)
        with pytest.raises(LockLost):
            await slow
        assert await made.history() == before
        with pytest.raises(LookupError, match="turn"):
            await made.graphs[0].ainvoke({"messages": [HumanMessage("b")]}, made.config)
        assert await made.history() == before
