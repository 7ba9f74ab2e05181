"""Run inside Rasa: what its RemoteAction sends, and what its tracker gets of each answer, as JSON.

`unit/actions/rasa.json` has what it prints; `make rasa` compares, and `unit/actions/test_as_rasa.py`
holds ours against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

CASES = json.loads(Path(__file__).with_name("action_cases.json").read_text())


def facts() -> dict[str, Any]:
    from rasa.core.actions.action import ActionExecutionRejection, RemoteAction
    from rasa.core.channels.channel import CollectingOutputChannel
    from rasa.core.nlg.response import TemplatedNaturalLanguageGenerator
    from rasa.core.policies.policy import PolicyPrediction
    from rasa.core.processor import MessageProcessor
    from rasa.shared.core.domain import Domain
    from rasa.shared.core.events import ActionExecutionRejected, deserialise_events
    from rasa.shared.core.trackers import DialogueStateTracker, EventVerbosity
    from rasa.utils.endpoints import EndpointConfig

    domain = Domain.from_dict(CASES["domain"])
    nlg = TemplatedNaturalLanguageGenerator(domain.responses)
    found: dict[str, Any] = {}
    for name, case in CASES["cases"].items():
        received: list[Any] = []
        server = _server(case, received)
        endpoint = EndpointConfig(f"http://127.0.0.1:{server.server_port}/webhook")
        tracker = DialogueStateTracker.from_events(
            "anna", deserialise_events(CASES["before"]), domain.slots, domain=domain
        )
        action = RemoteAction("action_x", endpoint)
        prediction = PolicyPrediction([1.0], "p")
        before = len(tracker.events)
        try:
            events = asyncio.run(action.run(CollectingOutputChannel(), nlg, tracker, domain))
            processor = SimpleNamespace(domain=domain)
            MessageProcessor._log_action_on_tracker(processor, tracker, action, events, prediction)
        except ActionExecutionRejection:
            tracker.update(ActionExecutionRejected("action_x", "p", 1.0))
        server.shutdown()
        state = tracker.current_state(EventVerbosity.ALL)
        found[name] = {
            "added": [without_time(event) for event in state["events"][before:]],
            "slots": state["slots"],
            "active_loop": state["active_loop"],
            "followup_action": state["followup_action"],
        }
    sent = received[0]
    sent["tracker"]["events"] = [without_time(event) for event in sent["tracker"]["events"]]
    return {"sent": sent, "cases": found}


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "timestamp"}


def _server(case: dict[str, Any], received: list[Any]) -> HTTPServer:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            received.append(json.loads(self.rfile.read(size)))
            body = json.dumps(case["answer"]).encode()
            self.send_response(case.get("status", 200))
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):  # logs
        made = facts()
    print(json.dumps(made, indent=1, sort_keys=True))
