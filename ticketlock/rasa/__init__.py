"""Inside a Rasa server: what its `endpoints.yml` names by module path.

The lock store gives each turn a fence, and the tracker stores here refuse a write under an older
one: they belong together. Rasa itself is imported at the first use of a tracker store, and is no
dependency. docs/rasa.md says how to use them, and what Rasa's own classes do instead.
"""

from typing import TYPE_CHECKING

from ..imports import late

if TYPE_CHECKING:
    from .locks import ConcurrentRedisLockStore
    from .trackers import MongoTrackerStore, RedisTrackerStore, SQLTrackerStore

__all__ = [
    "ConcurrentRedisLockStore",
    "MongoTrackerStore",
    "RedisTrackerStore",
    "SQLTrackerStore",
]

_LATE = {
    "ConcurrentRedisLockStore": "locks", "MongoTrackerStore": "trackers",
    "RedisTrackerStore": "trackers", "SQLTrackerStore": "trackers",
}  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE)
