"""A Celery application whose tasks fail with this library's errors; as a program, its client."""

from __future__ import annotations

import json
import os

from celery import Celery

import ticketlock
from ticketlock import ConcurrentRedisLockStore

REDIS = os.environ.get("TICKETLOCK_TEST_REDIS", "redis://localhost/1")
FORMAT = os.environ.get("TICKETLOCK_TEST_FORMAT", "json")

app = Celery("celery_app", broker=REDIS, backend=REDIS)
app.conf.update(
    accept_content=["json", FORMAT],
    result_serializer=FORMAT,
    broker_connection_retry_on_startup=True,
)
store = ConcurrentRedisLockStore(url=REDIS).sync()
#: Made before the workers are forked, and used in one of them.
early = store.lock("made early", wait_timeout=5)


@app.task(name="fail")
def fail(name: str, args: list[object]) -> None:
    """Raise the error of that name."""
    raise getattr(ticketlock.errors, name)(*args)


@app.task(name="wait_in_vain")
def wait_in_vain() -> None:
    """Wait for a turn that the client has."""
    with store.lock("held", wait_timeout=0.2):
        raise AssertionError("the turn is not free")


@app.task(name="use_early")
def use_early() -> int:
    """Have a turn with a lock that was made in the parent."""
    with early as grant:
        grant.ensure_held()
        return grant.number


def main() -> None:
    """Call each task, and print what became of it."""
    errors: list[list[object]] = json.loads(os.environ["TICKETLOCK_TEST_ERRORS"])
    results = [fail.delay(name, args) for name, *args in errors]
    with store.lock("held"):
        results.append(wait_in_vain.delay())
        for result in results:
            error = result.get(timeout=60, propagate=False)
            print(json.dumps([type(error).__name__, error.args, str(error)]))
    print(json.dumps(use_early.delay().get(timeout=60)))
    store.close()


if __name__ == "__main__":
    main()
