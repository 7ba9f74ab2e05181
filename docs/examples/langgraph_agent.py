"""A LangGraph agent whose threads handle one message at a time, on any number of replicas.

python langgraph_agent.py THREAD MESSAGE...   # all messages at once
"""

import asyncio
import os
import sys
import uuid
from contextvars import ContextVar
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Grant, Incoming

# -- shown in docs/how-to --
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
turn: ContextVar[Grant] = ContextVar("turn")


class TurnSaver(AsyncSqliteSaver):
    """A checkpointer that refuses the write of a run whose turn was lost, or that has none."""

    async def aput(self, *args: Any, **options: Any) -> Any:
        turn.get().ensure_held()
        return await super().aput(*args, **options)

    async def aput_writes(self, *args: Any, **options: Any) -> None:
        turn.get().ensure_held()
        await super().aput_writes(*args, **options)


async def think(messages: list[AnyMessage]) -> str:
    """Here an agent calls its model."""
    await asyncio.sleep(0.05)
    return f"reply {(len(messages) + 1) // 2} to {messages[-1].content}"


async def model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(await think(state["messages"]))]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_edge(START, "model")


async def send(graph: Any, locks: Any, thread_id: str, message_id: str, text: str) -> str:
    """The reply to a message, which is handled once, when those before it are done."""
    try:
        async with locks.lock(thread_id, incoming=Incoming(message_id)) as grant:
            turn.set(grant)
            # The graph loads the thread's state in here, when no other run can change it.
            state = await graph.ainvoke(
                {"messages": [HumanMessage(text, id=message_id)]},
                {"configurable": {"thread_id": thread_id}},
            )
            reply = str(state["messages"][-1].content)
            locks.answer(grant, {message_id: reply})
            return reply
    except DuplicateMessage as duplicate:
        return duplicate.reply


async def main(thread_id: str, *texts: str) -> None:
    async with (
        ConcurrentRedisLockStore(url=REDIS_URL) as locks,
        TurnSaver.from_conn_string("checkpoints.db") as saver,
    ):
        graph = builder.compile(checkpointer=saver)
        sent = [send(graph, locks, thread_id, str(uuid.uuid4()), text) for text in texts]
        for reply in await asyncio.gather(*sent):
            print(reply)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
