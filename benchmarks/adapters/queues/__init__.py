"""What is compared in (o): ways to have messages handled that nobody waits for.

Each is an `Adapter` of `base.Queue` in a worker process that submits and handles at once.
"""

from __future__ import annotations

from ...environments import ROOT
from .. import Peer

#: Our package too: all use its tracker store.
_OURS = ("--editable", str(ROOT), "redis==8.1.0", "hiredis==3.5.0")

#: `fifo`: whether it keeps the order of a conversation.
QUEUES = {
    "submitted": Peer("ticketlock, submitted", "queues.ours", fifo=True, fence=True),
    "awaited": Peer("ticketlock, awaited", "queues.awaited", fifo=True, fence=True),
    "stream": Peer("Redis stream group", "queues.stream", _OURS),
    "dramatiq": Peer("dramatiq on Redis", "queues.dramatiq", (*_OURS, "dramatiq[redis]==2.2.1")),
    "procrastinate": Peer(
        "procrastinate, lock=", "queues.procrastinate", (*_OURS, "procrastinate==3.10.0"), fifo=True
    ),
    "dbos": Peer("DBOS, partitions", "queues.dbos", (*_OURS, "dbos==3.4.0"), fifo=True),
}
