"""What replicas tell of themselves, sampled and merged; and who may see it and act on it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from ticketlock.conversations import Conversations
from ticketlock.server import Settings, create_app
from ticketlock.server.fleet import _parse
from ticketlock.server.fleet_view import ALIVE, merge
from ticketlock.server.meter import SAMPLES, STEP, Meter, merged, p99
from ticketlock.server.told import VERSION

Run = Callable[[Awaitable[None]], None]


def told(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    counters = {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    own = {"gone": False, "draining": False, "held": 1, "waiting": 2, "conversations": len(rows)}
    return {**own, "name": name, "rows": list(rows), "counters": counters, "samples": [], **more}


def row(fence: int | None, waiting: int = 0, wait: float = 0.0, name: str = "c") -> dict[str, Any]:
    holder = {"label": None, "number": 1, "fence": fence, "held_for": 5.0} if fence else None
    return {"id": name, "holder": holder, "waiting": waiting, "longest_wait": wait}


def test_a_holder_and_those_who_wait_elsewhere_are_one_row() -> None:
    """Ages go on after they were told; queues add up."""
    heard = {"1": (1.5, told("a", row(7, 1, 2.0))), "2": (0.5, told("b", row(None, 3, 4.0)))}
    (found,) = merge(heard)["conversations"]
    assert found["holder"]["process"] == "a"
    assert (found["holder"]["held_for"], found["waiting"], found["longest_wait"]) == (6.5, 4, 4.5)


def test_of_two_holders_the_later_turn_counts() -> None:
    for heard in ([row(7), row(9)], [row(9), row(7)]):
        (found,) = merge({str(i): (0.0, told(str(i), r)) for i, r in enumerate(heard)})[
            "conversations"
        ]
        assert found["holder"]["fence"] == 9


def test_the_dead_and_the_gone_are_left_out_but_for_the_past() -> None:
    samples = [[4, 1, 250]]
    heard = {
        "1": (0.0, told("a")),
        "2": (ALIVE, told("dead", row(7), samples=samples)),
        "3": (3.0, told("gone", row(8), gone=True)),
    }
    found = merge(heard)
    assert [process["name"] for process in found["processes"]] == ["a"]
    assert found["conversations"] == []
    assert found["counters"] == {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    assert found["totals"] == {"held": 1, "waiting": 2, "conversations": 0}
    assert found["history"]["turns"][0] == 4 / STEP


def test_the_longest_come_first() -> None:
    rows = [row(7, name="held 5 s"), row(None, 1, 9.0, "waits 9 s"), row(None, 1, 1.0, "waits 1 s")]
    found = merge({"1": (0.0, told("a", *rows))})["conversations"]
    assert [r["id"] for r in found] == ["waits 9 s", "held 5 s", "waits 1 s"]


def test_samples_are_laid_side_by_side_by_age() -> None:
    found = merged([(0.1, [[2, 1, 100], [4, 2, 300]]), (STEP + 0.1, [[6, 3, 200]])])
    assert found["turns"] == [(2 + 6) / STEP, 4 / STEP]
    assert found["waiting"] == [4, 2]
    assert found["wait"] == [0.2, 0.3]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2 * STEP * SAMPLES),
            # Few different ones, of all lengths: drawing each sample takes all the time.
            st.builds(
                lambda some, times: (some * times)[:SAMPLES],
                st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=5),
                st.integers(1, SAMPLES // 4),
            ),
        ),
        max_size=6,
    )
)
def test_any_histories_make_charts(histories: list[Any]) -> None:
    """Of equal lengths, with nothing lost that is recent enough."""
    found = merged(histories)
    lengths = {len(found[key]) for key in ("turns", "waiting", "wait")}
    assert len(lengths) == 1
    assert lengths.pop() <= SAMPLES
    recent = [s for age, samples in histories if age < STEP for s in samples]
    assert sum(turns for turns in found["turns"] if turns) * STEP >= sum(s[0] for s in recent)


def test_a_queue_that_does_not_move_is_in_the_percentile() -> None:
    meter = Meter()
    meter.ended(0.5)
    meter.sample([9.0])
    meter.sample([])
    assert list(meter.samples) == [(1, 1, 9000), (0, 0, 0)]
    assert p99([i / 1000 for i in range(1, 201)]) == 198


def test_what_is_not_of_our_form_is_passed_over() -> None:
    summary = {**told("a", row(7, 1, 2.0), row(None, 1)), "v": VERSION, "samples": [[1, 2, 3]]}
    good = json.dumps({**summary, "added later": 1}).encode()
    assert _parse(5000, b"3000 " + good) == (2.0, summary)
    for text in (
        b"",
        b"3000",
        b"x " + good,
        b'3000 {"v": 99}',
        b"3000 [1]",
        b"3000 {",
        b"9999999999999 " + good,
        b"9" * 5000 + b" " + good,
        b'3000 {"v": 1}',
    ):
        assert _parse(5000, text) is None


STRANGE = [None, True, -1, 1.5, float("nan"), 10**400, "x", "\ud800", "x" * 2000, [], [[]], {}, [{}],
           [None], [[1, 2]], [[1, 2, None]], {"id": 5}, {"fence": None}]  # fmt: skip


@given(st.data())
def test_no_part_of_it_is_trusted(data: st.DataObject) -> None:
    """With any part replaced by anything, it is passed over, or can be merged and sent on."""
    summary: Any = {**told("a", row(7, 1, 2.0), row(None)), "v": VERSION, "samples": [[1, 2, 3]]}
    part, key = summary, data.draw(st.sampled_from(sorted(summary)))
    while isinstance(part[key], (dict, list)) and part[key] and data.draw(st.booleans()):
        part = part[key]
        keys = sorted(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
    part[key] = data.draw(st.sampled_from(STRANGE))
    found = _parse(5000, b"3000 " + json.dumps(summary).encode())
    merged = merge({"1": found} if found else {})
    JSONResponse(merged)


# -- over HTTP -----------------------------------------------------------------------------------------


def client(conversations: Conversations, **settings: Any) -> httpx.AsyncClient:
    app = create_app(conversations, settings=Settings(**settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


def test_a_process_of_its_own_tells_of_itself(run: Run) -> None:
    """Without a shared lock store the page has what this process does."""

    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            async with conversations.turn("c", label="by hand") as turn:
                waiting = asyncio.create_task(
                    http.post("/webhooks/rest/webhook", json={"sender": "c", "message": "hi"})
                )
                while not (seen := (await http.get("/live")).json())["totals"]["waiting"]:
                    await asyncio.sleep(0.3)
                assert seen["scope"] == "process"
                assert seen["can_break"] is False
                assert seen["outbox"] is None
                # The lock store knows of holders that are no messages.
                (found,) = seen["conversations"]
                assert (found["waiting"], found["holder"]["label"]) == (1, "by hand")
                assert found["holder"]["fence"] == turn.fence
            assert (await waiting).status_code == 200

    run(body())


def test_browsers_get_the_page_and_programs_the_greeting(run: Run) -> None:
    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            assert (await http.get("/")).text.startswith("Hello from ticketlock")
            answer = await http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none';")
            assert "unsafe" not in policy
            assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
            # Nothing is loaded from elsewhere, and nothing is put in as markup.
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
            assert not re.findall(
                r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", answer.text
            )

    run(body())


def test_where_a_token_is_configured_nothing_is_shown_without(run: Run) -> None:
    """The admin token shows and breaks; the token of the conversations shows; no other does."""

    async def body() -> None:
        settings = {
            "auth_token": "it-reads",
            "admin_token": "it-breaks",
            "channel_token": "it-sends",
        }
        async with Conversations() as conversations, client(conversations, **settings) as http:

            async def look(token: str) -> int:
                headers = {"authorization": f"Bearer {token}"}
                return (await http.get("/live", headers=headers)).status_code

            async def end(token: str, body: Any) -> httpx.Response:
                headers = {"authorization": f"Bearer {token}"}
                return await http.post("/live/break", headers=headers, json=body)

            assert [await look(t) for t in ("it-reads", "it-breaks", "it-sends", "")] == [
                200,
                200,
                401,
                401,
            ]
            async with conversations.turn("c") as turn:
                this = {"conversation": "c", "fence": turn.fence}
                assert [(await end(t, this)).status_code for t in ("it-reads", "it-sends")] == [
                    401,
                    401,
                ]
                answer = await end("it-breaks", {**this, "fence": turn.fence + 1})
                assert (answer.json()["broken"], turn.grant.reason) == (False, None)
                assert answer.json()["held"]["fence"] == turn.fence
            for wrong in (
                {},
                {"conversation": "c"},
                {**this, "fence": "1"},
                {**this, "fence": True},
            ):
                assert (await end("it-breaks", wrong)).status_code == 400

    run(body())


def test_without_an_admin_token_nobody_breaks(run: Run) -> None:
    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            answer = await http.post("/live/break", json={"conversation": "c", "fence": 1})
            assert answer.status_code == 403

    run(body())
