"""What the workers of the roll do, recorded on a second Redis that nobody attacks.

A write is fenced, as a tracker store would do it: one under an older fence than the highest one is
refused. It must run on the version before too.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:  # older versions have it elsewhere
    from ticketlock.locks.grant import Grant


def clock() -> float:
    """The library's clock, whichever version of it runs here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


#: Claims at the begin of a turn, refuses what comes under an older fence; the order of the
#: list is the order of what really happened.
FENCED = """
local highest = tonumber(redis.call('GET', KEYS[2]) or 0)
local entry = cjson.decode(ARGV[2])
entry.refused = tonumber(ARGV[1]) < highest
if not entry.refused then redis.call('SET', KEYS[2], ARGV[1]) end
redis.call('RPUSH', KEYS[1], cjson.encode(entry))
return entry.refused and 1 or 0
"""


class Recorder:
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._fenced = self._redis.register_script(FENCED)

    def write(self, grant: Grant, event: str, **more: object) -> bool:
        """Record an event; False if it was refused. Blocks: it is microseconds."""
        entry = {
            "e": event, "n": grant.number, "f": str(grant.fence), "p": os.getpid(), "t": clock(),
            **more,
        }  # fmt: skip
        keys = [f"log:{grant.conversation_id}", f"fence:{grant.conversation_id}"]
        return not self._fenced(keys=keys, args=[grant.fence, json.dumps(entry)])

    def count(self, what: str) -> int:
        """How often this was asked before, by all."""
        return int(self._redis.incr(what)) - 1

    def note(self, what: str, **details: object) -> None:
        entry = {"what": what, "p": os.getpid(), "t": clock(), **details}
        self._redis.rpush("notes", json.dumps(entry))
