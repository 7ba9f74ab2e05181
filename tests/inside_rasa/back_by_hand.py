"""Run by Rasa's Python: `back_by_hand.py PORT`. What `python -m ticketlock.rasa` copies and refuses."""

from __future__ import annotations

import asyncio
import sys

from rasa.shared.core.events import UserUttered
from rasa.utils.endpoints import EndpointConfig

from ticketlock import ConfigurationError
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.rasa.back import copy, open_target

SESSION = [
    {"event": "action", "name": "action_session_start", "timestamp": 1.0},
    {"event": "session_started", "timestamp": 2.0},
    {"event": "user", "text": "hi", "timestamp": 3.0},  # without the parse_data that Rasa needs
    {"event": "own", "timestamp": 4.0},  # of no type that Rasa knows
    {"event": "slot", "name": "unknown here", "value": [1], "timestamp": 5.0},
]


def refused(section: EndpointConfig) -> str:
    try:
        open_target(section)
    except ConfigurationError as error:
        return str(error)
    raise AssertionError("it was opened")


async def main(port: int) -> None:
    url = f"redis://127.0.0.1:{port}/5"
    rasa = {"url": "127.0.0.1", "port": port, "db": 6}
    for kind in ("ticketlock.rasa.RedisTrackerStore", "a.misspelled.one"):
        section = EndpointConfig(type=kind, url=url)
        assert "Rasa's type: redis, mongod or sql" in refused(section), kind
    target = open_target(EndpointConfig(type="redis", **rasa))
    async with create_tracker_store({"type": "redis", "url": url}) as source:
        for name in ("anna", "ben"):
            claim = await source.claim(name, 1, "x")
            await source.append(claim, [*SESSION, *SESSION])
        tally = await copy(source, target)
        assert (tally.conversations, tally.events, tally.failed) == (2, 16, {}), tally
        assert tally.left_out == {"own": 4}, tally
        found = await target.retrieve_full_tracker("anna")
        wanted = [event["event"] for event in SESSION if event["event"] != "own"]
        assert [event.type_name for event in found.events] == wanted * 2, found.events
        # What Rasa has beside it is not overwritten; what is there already is left alone.
        found.update(UserUttered("hello", {"intent": {"name": "say"}}))
        await target.save(found)
        tally = await copy(source, target)
        assert (tally.skipped, list(tally.failed)) == (1, ["anna"]), tally
        assert "other events" in tally.failed["anna"], tally
        assert len((await target.retrieve_full_tracker("anna")).events) == 9


asyncio.run(main(int(sys.argv[1])))
