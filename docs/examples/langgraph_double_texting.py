"""What a message does while another one of its thread is being handled, for a LangGraph agent."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal

from langchain_core.messages import HumanMessage
from langgraph.graph import START
from langgraph_agent import turn

from ticketlock import DuplicateMessage, Grant, Incoming

Mode = Literal["enqueue", "reject", "interrupt", "rollback", "coalesce"]


async def send(
    graph: Any, locks: Any, thread_id: str, message_id: str, text: str, mode: Mode = "enqueue"
) -> str:
    """The reply to a message; empty if it was interrupted, rolled back, or answered together.

    Raises LockTimeout of `reject`, if another message is being handled.
    """
    incoming = Incoming(
        message_id,
        text=text if mode == "coalesce" else None,
        supersede=mode if mode in ("interrupt", "rollback") else None,
    )
    wait_timeout = 0 if mode == "reject" else None
    try:
        async with locks.lock(thread_id, incoming=incoming, wait_timeout=wait_timeout) as grant:
            turn.set(grant)
            together = await locks.collect(grant) if mode == "coalesce" else []
            messages = [(message_id, text), *together]
            reply = await run(
                graph, grant, [HumanMessage(said, id=name) for name, said in messages]
            )
            replies = dict.fromkeys([name for name, _ in messages], "")
            replies[messages[-1][0]] = reply  # the last one has the reply to all of them
            locks.answer(grant, replies)
            return replies[message_id]
    except DuplicateMessage as duplicate:  # also: an earlier turn has taken it in
        return duplicate.reply


async def run(graph: Any, grant: Grant, messages: list[HumanMessage]) -> str:
    """Run the graph, unless a later message asks this turn to stop."""
    config = {"configurable": {"thread_id": grant.conversation_id}}
    before = await graph.aget_state(config)
    state = await unless_superseded(grant, graph.ainvoke({"messages": messages}, config))
    if state is not None:
        return str(state["messages"][-1].content)
    if grant.superseded == "interrupt":  # what has been done is kept, and the messages
        await graph.aupdate_state(config, {"messages": messages}, as_node=START)
    elif before.created_at is None:
        await graph.checkpointer.adelete_thread(grant.conversation_id)
    else:  # the checkpoint from before the run is the latest one again
        await graph.aupdate_state(before.config, None, as_node="__copy__")
    return ""


async def unless_superseded(grant: Grant, work: Coroutine[Any, Any, Any]) -> Any:
    """What the work returns; None, and it is cancelled, if the turn is asked to stop."""
    working = asyncio.ensure_future(work)
    asked = asyncio.ensure_future(grant.until_superseded())
    try:
        await asyncio.wait([working, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        working.cancel()
        await asyncio.wait([working])
    return None if working.cancelled() else working.result()
