"""How Rasa reads domains, as JSON: `python domain_facts.py`, in Rasa's environment.

`unit/domain/rasa.json` has what it printed; the tests compare ours with that, and `make rasa` asks
again. It imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "domains"
DOMAINS = ("one.yml", "folder", "empty.yml")

SET = {"event": "slot", "name": "city", "value": "Oslo"}
#: Events, after which the slots are those of a fact.
HISTORIES: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "set": [SET],
    "list of one value": [{"event": "slot", "name": "tags", "value": "b"}],
    "list of none": [{"event": "slot", "name": "tags", "value": None}],
    "list of an empty text": [{"event": "slot", "name": "tags", "value": ""}],
    "list of lists": [{"event": "slot", "name": "tags", "value": [["b"]]}],
    "categorical of another value": [{"event": "slot", "name": "size", "value": "HUGE"}],
    "float beyond its bounds": [{"event": "slot", "name": "share", "value": 99}],
    "float of a text": [{"event": "slot", "name": "share", "value": "3"}],
    "bool of a text": [{"event": "slot", "name": "ok", "value": "no"}],
    "text of a number": [{"event": "slot", "name": "city", "value": 3}],
    "not declared": [{"event": "slot", "name": "nope", "value": 1}],
    "restart": [SET, {"event": "restart"}],
    "reset": [SET, {"event": "reset_slots"}],
    "session": [SET, {"event": "action", "name": "action_session_start"},
                {"event": "session_started"}],
    "session with slots": [SET, {"event": "session_started"}, SET],
    "undone": [{"event": "user", "text": "a"}, SET, {"event": "rewind"}],
}  # fmt: skip

#: Events before a session starts.
BEFORE: list[dict[str, Any]] = [
    SET,
    {"event": "slot", "name": "tags", "value": "b"},
    {"event": "slot", "name": "size", "value": None},
    {"event": "slot", "name": "data", "value": {"a": [1, 2]}},
    {"event": "slot", "name": "nope", "value": 1},
]

SMALL: dict[str, Any] = {"city": "Rome", "size": "small"}
#: Response, channel, slots, variables.
ASKED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("utter_greet", "rest", {"city": "Rome", "size": None}, {"name": "Anna"}),
    ("utter_greet", "rest", SMALL, {"name": "Anna"}),
    ("utter_greet", "slack", SMALL, {"name": "Anna"}),
    ("utter_greet", "rest", {"city": "Rome"}, {}),
    ("utter_greet", "rest", {"city": None, "name": 3}, {"name": None}),
    ("utter_pic", "rest", SMALL, {}),
    ("utter_json", "rest", SMALL, {}),
    ("utter_all", "rest", SMALL, {}),
    *(
        ("utter_order", channel, {"size": size, "ok": ok, "share": share}, {})
        for channel in ("rest", "slack", "telegram")
        for size in ("BIG", "x", None)
        for ok, share in ((True, 1.0), ("true", 2))
    ),
    ("utter_never", "rest", {"city": "Rome"}, {}),
    ("utter_never", "rest", {"city": "OSLO"}, {}),
]
VALUES = {"city": "Rome", "n": 3, "none": None, "yes": True, "a b.c": "dotted", "braces": "{city}",
          "list": ["a", 1]}  # fmt: skip
TEMPLATES = [
    "{city}", "{city} {n} {none} {yes} {list}", "{{city}}", "{{{city}}}", '/i{{"c": "{city}"}}',
    '/i{"c": "Rome"}', "{unknown} {city}", "{a b.c}", "{city.__class__}", "{braces}", "no", "",
    "{city!r}", "{city:>9}", "a\n{city}\nb",
]  # fmt: skip


def facts() -> dict[str, Any]:
    from rasa.core.actions.action import ActionSessionStart, create_bot_utterance
    from rasa.core.nlg.generator import ResponseVariationFilter
    from rasa.core.nlg.interpolator import interpolate_text
    from rasa.core.nlg.response import TemplatedNaturalLanguageGenerator
    from rasa.shared.core.domain import Domain, SessionConfig
    from rasa.shared.core.trackers import DialogueStateTracker
    from rasa.version import __version__

    found = {name: Domain.load(str(FOLDER / name)) for name in DOMAINS}
    one = found["one.yml"]
    said = TemplatedNaturalLanguageGenerator(one.responses)

    def slots(domain: Any, events: list[dict[str, Any]]) -> Any:
        stamped = [{"timestamp": 1.0, "parse_data": {}, **event} for event in events]
        tracker = DialogueStateTracker.from_dict("c", stamped, domain.slots)
        return tracker.current_slot_values()

    def suitable(name: str, channel: str, filled: dict[str, Any], given: dict[str, Any]) -> Any:
        chosen = ResponseVariationFilter(one.responses).responses_for_utter_action(
            name, channel, filled
        )
        copies = json.loads(json.dumps(chosen))
        return [said._fill_response(each, filled, **given) for each in copies]

    def event(name: str) -> Any:
        (only,) = suitable(name, "rest", SMALL, {})
        made = create_bot_utterance({**only, "utter_action": name}).as_dict()
        return {key: made[key] for key in ("text", "data", "metadata")}

    def session(carry: bool) -> Any:
        again = Domain.from_dict(json.loads(json.dumps(one.as_dict())))
        again.session_config = SessionConfig(5, carry)
        user = {"event": "user", "text": "hi", "parse_data": {}}
        events = [user, *({**event} for event in BEFORE)]
        stamped = [{**event, "timestamp": 1.0} for event in events]
        tracker = DialogueStateTracker.from_dict("c", stamped, again.slots)
        for event in asyncio.run(ActionSessionStart().run(None, said, tracker, again)):
            tracker.update(event, again)
        return tracker.current_slot_values()

    return {
        "rasa": __version__,
        "domains": {
            name: {
                "as_dict": domain.as_dict(),
                "slots": slots(domain, []),
                "session": domain.session_config.as_dict(),
            }
            for name, domain in found.items()
        },
        "histories": [[name, events, slots(one, events)] for name, events in HISTORIES.items()],
        "responses": [[*asked, suitable(*asked)] for asked in ASKED],
        "before": BEFORE,
        "sessions": [[carry, session(carry)] for carry in (True, False)],
        "templates": [[text, interpolate_text(text, VALUES)] for text in TEMPLATES],
        "values": VALUES,
        "events": {name: event(name) for name in ("utter_pic", "utter_json", "utter_all")},
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):  # logs of unknown variables
        made = facts()
    lines = (f"{json.dumps(key)}: {json.dumps(made[key], sort_keys=True)}" for key in sorted(made))
    print("{\n" + ",\n".join(lines) + "\n}")
