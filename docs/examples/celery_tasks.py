"""Turns in Celery tasks: `celery -A celery_tasks worker --concurrency 4`."""

import os
from typing import Any

from celery import Celery

from ticketlock import Conversations, DuplicateMessage, Incoming, LockTimeout, QueueFull

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0")

app = Celery("celery_tasks", broker=BROKER_URL, backend=BROKER_URL)
# Made once in the parent; each forked worker connects for itself at its first task.
conversations = Conversations(
    lock_store={"type": "concurrent_redis", "url": REDIS_URL},
    tracker_store={"type": "sql", "db": "bot.db"},
).sync()


# Acknowledged when done: a task whose worker is killed is delivered again.
@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=None)
def handle(self: Any, sender_id: str, message_id: str, text: str) -> str:
    """Reply to a message; one of a conversation at a time, and each of them once."""
    incoming = Incoming(message_id)
    try:
        with conversations.turn(
            sender_id, wait_timeout=10, max_waiting=2, incoming=incoming
        ) as turn:
            count = turn.tracker.slots.get("count", 0) + 1
            reply = f"message {count}: {text}"
            turn.add(
                {"event": "user", "text": text},
                {"event": "slot", "name": "count", "value": count},
                {"event": "bot", "text": reply},
            )
            turn.answer(reply)
        return reply  # here all three events are written
    except DuplicateMessage as duplicate:
        return duplicate.reply
    except (LockTimeout, QueueFull) as busy:  # leave the worker to other conversations
        raise self.retry(exc=busy, countdown=1) from busy
