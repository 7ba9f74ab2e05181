"""The sentinels of a deployment: how many there are, and whether they agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from redis.exceptions import RedisError

from ...aio.loop_time import within_loop_time
from ...errors import LockStoreConnectionError
from ...redis.sentinels import ask_sentinel
from ..finding import Finding, fault
from .deployment import Address, Deployment, shown

#: Fewer cannot lose one and still have a majority.
LEAST = 3

SILENT = fault(
    "sentinel-unreachable", "warning",
    "A failover needs the majority of the sentinels, and replicas find the master by those that they "
    "reach.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/",
)  # fmt: skip

FEW = fault(
    "sentinel-few", "warning",
    "With fewer than three sentinels, the loss of one machine leaves no majority: there is no failover.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/",
)  # fmt: skip

QUORUM = fault(
    "sentinel-quorum", "error",
    "More sentinels would have to agree that the master is down than there are: there is no failover.",
    "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/",
)  # fmt: skip

DISAGREE = fault(
    "sentinel-disagree", "error",
    "Replicas that ask different sentinels use different masters, and turns overlap.",
    "docs/operations/failover.md",
)  # fmt: skip

Answers = Mapping[Address, dict[str, str] | Exception]


async def ask_all(deployment: Deployment) -> Answers:
    """What each sentinel of the section says of the master, or its error."""
    places = deployment.settings.endpoints
    asked = (
        within_loop_time(deployment.timeout, ask_sentinel(deployment.settings, *place))
        for place in places
    )
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(
            answer, (LockStoreConnectionError, RedisError, OSError, asyncio.TimeoutError)
        ):
            raise answer
    return dict(zip(places, answers, strict=True))  # type: ignore[arg-type]  # errors of asking


def sentinels(answers: Answers, name: str) -> Iterator[Finding]:
    """Too few of them, one that is silent, a quorum that cannot be, two masters.

    Source: SENTINEL MASTER of each, and Redis' page on sentinels.

    Args:
        name: of the master, as they know it.
    """
    states = {}
    for place, answer in answers.items():
        if isinstance(answer, Exception):
            yield SILENT.found(
                str(answer) or f"the sentinel at {shown(place)} gave no answer",
                "start it, or correct endpoints and sentinel_password in the section",
            )
        else:
            states[place] = answer
    masters = {f"{state['ip']}:{state['port']}" for state in states.values()}
    if len(masters) > 1:
        yield DISAGREE.found(
            f"the sentinels name {len(masters)} masters: {', '.join(sorted(masters))}",
            f"SENTINEL RESET {name} on those that are wrong; check the network between them",
        )
    if not states:
        return
    known = max(int(state.get("num-other-sentinels", 0)) + 1 for state in states.values())
    quorum = max(int(state.get("quorum", 0)) for state in states.values())
    if known < LEAST:
        yield FEW.found(
            f"{known} {'sentinel knows' if known == 1 else 'sentinels know'} of the master",
            "run three, on three machines, and list them all in endpoints",
        )
    if quorum > known:
        yield QUORUM.found(
            f"the quorum is {quorum}, and there are {known} sentinels",
            f"SENTINEL SET {name} quorum {known // 2 + 1} on each",
        )


def down_after(answers: Answers) -> float | None:
    """Seconds after which the first of the sentinels calls a master down; None if none has answered."""
    times = [
        int(answer["down-after-milliseconds"]) / 1000
        for answer in answers.values()
        if not isinstance(answer, Exception) and "down-after-milliseconds" in answer
    ]
    return min(times, default=None)
