"""The bot of a run with `--actions`, beside `e2e_bot`: it also calls actions and schedules reminders.

What it says by them is an image, so that the reply to the message stays what it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any

import e2e_bot

from ticketlock.events import ReminderScheduled


async def bot(turn: Any, message: Any) -> AsyncIterator[dict[str, Any]]:
    if message.reminder is not None:
        (entity,) = message.parse_data["entities"]
        yield {"image": f"reminder {entity['value']}"}
        return
    async with aclosing(e2e_bot.bot(turn, message)) as replies:
        async for reply in replies:
            yield reply
            await act(turn, int(message.message_id))


async def act(turn: Any, id: int) -> None:
    """Every fourth message calls an action; of five messages one schedules a reminder that fires,
    and one a reminder that fires unless the user writes before.
    """
    if id % 4 == 0:
        await turn.run_action("action_stamp")
    if id % 5 < 2:
        at = datetime.now(timezone.utc) + timedelta(seconds=1 + id % 3)
        entities = [{"entity": "message", "value": id}]
        turn.add(
            ReminderScheduled(
                "remind", at.isoformat(), entities, name=f"r{id}", kill_on_user_msg=id % 5 == 1
            )
        )
