"""What is imported leaves logging as the application has it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ticketlock.demo.listeners import EVENT_LISTENERS
from ticketlock.endpoints.registry import EVENT_BROKERS, EVENT_SOURCES, TRACKER_STORES

CODE = """
import json, logging, sys
from importlib import import_module
drivers = ["pika", "confluent_kafka", "boto3", "botocore", "pymongo", "sqlalchemy", "redis"]
for name in drivers:
    logging.getLogger(name).setLevel(logging.INFO)
for name in sys.argv[1:]:
    import_module(name)
root = logging.getLogger()
changed = [f"{name}: {logging.getLogger(name).level}" for name in drivers
           if logging.getLogger(name).level != logging.INFO]
changed += ["the root"] * (root.level != logging.WARNING or root.handlers != [])
changed += ["what is disabled"] * bool(logging.root.manager.disable)
for name, logger in logging.root.manager.loggerDict.items():
    if isinstance(logger, logging.PlaceHolder):
        continue
    foreign = name.partition(".")[0] not in drivers or name in drivers
    level = logging.INFO if name in drivers else logging.NOTSET
    if foreign and (logger.level != level or not logger.propagate or logger.disabled):
        changed.append(name)
    if name.startswith("ticketlock") and logger.handlers:
        changed.append(f"the handlers of {name}")
print(json.dumps(changed))
"""


@pytest.mark.parametrize(
    "places",
    [
        EVENT_BROKERS,
        {**EVENT_SOURCES, **EVENT_LISTENERS},
        TRACKER_STORES,
        {"core": "ticketlock", "server": "ticketlock.server"},
    ],
    ids=["brokers", "readers", "stores", "core"],
)
def test_an_import_changes_no_logger(places: dict[str, str]) -> None:
    modules = sorted({place.partition(":")[0] for place in places.values()})
    words = [sys.executable, "-c", CODE, *modules]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
