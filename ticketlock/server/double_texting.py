"""Double texting: what a message does while another one of its conversation is being handled.

A policy is chosen by `double_texting` in the section `server`, or by a message for itself. To add
one: name it in `Policy` and in `Mode` of `inbox/submission.py`, and say in `check_policy` what it
needs. How turns are stopped is in `locks/superseded.py`; what becomes of their replies is in
`bot_runner.py`. `docs/guides/webhooks.md` says what each policy does.
"""

from __future__ import annotations

from typing import Literal, get_args

from ..inbox.submission import Mode
from ..locks.store import LockStore
from .errors import BadRequest

#: `enqueue`: it waits for its turn. `reject`: it is answered 409. `coalesce`: messages that wait
#: are handled in one turn. `interrupt`, `rollback`: the turns before it are asked to stop, and
#: what they have said is stored, or not.
Policy = Literal["enqueue", "reject", "coalesce", "interrupt", "rollback"]
POLICIES: tuple[str, ...] = get_args(Policy)


def check_policy(policy: str, store: LockStore) -> None:
    """Raise BadRequest if the lock store does not support a policy."""
    if policy not in ("enqueue", "reject") and not store.keeps_messages:
        raise BadRequest(
            f"double_texting: {type(store).__name__} supports only enqueue and "
            "reject; use in_memory or concurrent_redis for the others"
        )


def mode(policy: str) -> Mode:
    """How a message of that policy is submitted; `reject` is enqueued at once or not at all."""
    return "enqueue" if policy == "reject" else policy  # type: ignore[return-value]  # checked
