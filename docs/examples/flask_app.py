"""Turns in a Flask app, through the synchronous twin: `flask --app flask_app run`.

Any number of threads and processes may serve it.
"""

import os
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from ticketlock import Conversations, LockTimeout, QueueFull

app = Flask(__name__)
conversations = Conversations.from_endpoints(os.environ.get("ENDPOINTS", "endpoints.yml")).sync()


@app.post("/messages/<path:sender_id>")
def message(sender_id: str) -> ResponseReturnValue:
    """Count the message; two of one conversation are handled one after the other."""
    body: dict[str, Any] = request.get_json()
    with conversations.turn(sender_id, wait_timeout=10, max_waiting=100) as turn:
        count = turn.tracker.slots.get("count", 0) + 1
        reply = f"message {count}: {body['message']}"
        turn.add(
            {"event": "user", "text": body["message"]},
            {"event": "slot", "name": "count", "value": count},
            {"event": "bot", "text": reply},
        )
    return jsonify([reply])  # here all three events are written


@app.errorhandler(LockTimeout)
@app.errorhandler(QueueFull)
def busy(error: Exception) -> ResponseReturnValue:
    return jsonify(error=str(error)), 429, {"Retry-After": "1"}
