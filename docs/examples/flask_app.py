"""Turns in a Flask app, through the synchronous twin: `flask --app flask_app run`.

Any number of threads and processes may serve it.
"""

import os
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from ticketlock import Conversations, DuplicateMessage, Incoming, LockTimeout, QueueFull

app = Flask(__name__)
conversations = Conversations(
    lock_store={
        "type": "concurrent_redis",
        "url": os.environ.get("REDIS_URL", "redis://localhost:6379/1"),
    },
    tracker_store={"type": "sql", "db": "bot.db"},  # SQLite; or a dialect, url, db of a server
).sync()


@app.post("/messages/<path:sender_id>")
def message(sender_id: str) -> ResponseReturnValue:
    """Handle one message of a conversation at a time, and each of them once."""
    body: dict[str, Any] = request.get_json()
    incoming = Incoming(body["message_id"])
    with conversations.turn(sender_id, wait_timeout=10, max_waiting=100, incoming=incoming) as turn:
        count = turn.tracker.slots.get("count", 0) + 1
        reply = f"message {count}: {body['message']}"
        turn.add(
            {"event": "user", "text": body["message"]},
            {"event": "slot", "name": "count", "value": count},
            {"event": "bot", "text": reply},
        )
        turn.answer(reply)
    return jsonify([reply])  # here all three events are written


@app.errorhandler(DuplicateMessage)
def duplicate(error: DuplicateMessage) -> ResponseReturnValue:
    """The message was sent again: it gets the reply of the first time."""
    return jsonify([error.reply])


@app.errorhandler(LockTimeout)
@app.errorhandler(QueueFull)
def busy(error: Exception) -> ResponseReturnValue:
    return jsonify(error=str(error)), 429, {"Retry-After": "1"}
