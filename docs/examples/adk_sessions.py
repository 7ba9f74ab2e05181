"""A Google ADK agent whose sessions handle one message at a time, on any number of replicas.

python adk_sessions.py USER SESSION MESSAGE...   # all messages at once
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService, Session
from google.genai.types import Content, Part

from ticketlock import ConcurrentRedisLockStore, DuplicateMessage, Grant, Incoming

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
turn: ContextVar[Grant] = ContextVar("turn")


class TurnSessionService(DatabaseSessionService):
    """A session service that refuses the event of a run whose turn was lost, or that has none."""

    async def append_event(self, session: Session, event: Event) -> Event:
        turn.get().ensure_held()
        return await super().append_event(session, event)


class Counter(BaseAgent):
    """Here stands an agent with a model; this one counts."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(0.05)
        count = sum(event.author == "user" for event in ctx.session.events)
        reply = Content(role="model", parts=[Part(text=f"message {count}")])
        yield Event(author=self.name, invocation_id=ctx.invocation_id, content=reply)


async def send(
    runner: Runner, locks, user_id: str, session_id: str, message_id: str, text: str
) -> str:
    """The reply to a message, which is handled once, when those before it are done."""
    conversation = f"{runner.app_name} {user_id} {session_id}"
    said = Content(role="user", parts=[Part(text=text)])
    try:
        async with locks.lock(conversation, incoming=Incoming(message_id)) as grant:
            turn.set(grant)
            reply = ""
            # The runner loads the session in here, when no other run can change it.
            run = runner.run_async(user_id=user_id, session_id=session_id, new_message=said)
            async with aclosing(run) as events:
                async for event in events:
                    if event.is_final_response() and event.content:
                        reply += "".join(part.text or "" for part in event.content.parts)
            locks.answer(grant, {message_id: reply})
            return reply
    except DuplicateMessage as duplicate:
        return duplicate.reply


async def main(user_id: str, session_id: str, *texts: str) -> None:
    async with (
        ConcurrentRedisLockStore(url=REDIS_URL) as locks,
        TurnSessionService("sqlite+aiosqlite:///sessions.db") as sessions,
    ):
        runner = Runner(
            agent=Counter(name="counter"),
            app_name="bot",
            session_service=sessions,
            auto_create_session=True,
        )
        sent = [send(runner, locks, user_id, session_id, str(uuid.uuid4()), t) for t in texts]
        for reply in await asyncio.gather(*sent):
            print(reply)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
