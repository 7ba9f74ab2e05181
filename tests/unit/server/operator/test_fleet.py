"""What replicas tell of themselves, sampled and merged; and who may see it and act on it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse

from ticketlock.conversations import Conversations
from ticketlock.server import Settings, create_app
from ticketlock.server.operator.activity import age
from ticketlock.server.operator.meter import SAMPLES, STEP, Meter, merged, percentile
from ticketlock.server.operator.replicas import Snapshot, parse_snapshots
from ticketlock.server.operator.report import MAX_OLDEST, ROWS_BYTES, VERSION, pack_rows, parse_rows
from ticketlock.server.operator.view import ALIVE, View

Run = Callable[[Awaitable[None]], None]


def told(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a process tells, in the form of version 0.2.0."""
    counters = {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    own = {"gone": False, "draining": False, "held": 1, "waiting": 2, "conversations": len(rows)}
    return {**own, "name": name, "rows": list(rows), "counters": counters, "samples": [], **more}


#: What a process of that version does not tell.
ADDED: dict[str, Any] = {
    "spread": [], "address": "", "version": "", "uptime": None, "stores": {}, "reasons": {},
    "failed": [], "errors": [],
}  # fmt: skip


def merge(heard: dict[str, tuple[float, dict[str, Any]]], **rows: Any) -> dict[str, Any]:
    """The page's object of what processes told; `rows`: of which process what one by one."""
    each = [
        Snapshot(since, {**ADDED, **summary}, since, rows.get(summary["name"]))
        for since, summary in heard.values()
    ]
    view = View(each)
    return {**view.whole, "conversations": sorted(view.rows, key=age, reverse=True)}


def row(fence: int | None, waiting: int = 0, wait: float = 0.0, name: str = "c") -> dict[str, Any]:
    holder = {"label": None, "number": 1, "fence": fence, "held_for": 5.0, "lifetime": None}
    holder = holder if fence else None
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


def test_the_dead_and_the_gone_stay_to_be_seen_and_count_no_more() -> None:
    samples = [[4, 1, 250]]
    heard = {
        "1": (0.0, told("a")),
        "2": (ALIVE, told("dead", row(7), samples=samples)),
        "3": (3.0, told("gone", row(8), gone=True)),
    }
    found = merge(heard)
    names = [(p["name"], p["here"], p["ended"]) for p in found["processes"]]
    assert names == [("a", True, False), ("gone", False, True), ("dead", False, False)]
    assert found["processes"][2]["counters"]["handled"] == 1
    assert found["conversations"] == []
    assert found["counters"] == {"handled": 1, "duplicates": 2, "rejected": 3, "errors": 4}
    totals = {"held": 1, "waiting": 2, "conversations": 0, "unlisted": 0, "slow": 0, "stuck": 0}
    assert found["totals"] == totals
    assert found["history"]["turns"][0] == 4 / STEP


def test_the_longest_come_first() -> None:
    rows = [row(7, name="held 5 s"), row(None, 1, 9.0, "waits 9 s"), row(None, 1, 1.0, "waits 1 s")]
    found = merge({"1": (0.0, told("a", *rows))})["conversations"]
    assert [r["id"] for r in found] == ["waits 9 s", "held 5 s", "waits 1 s"]


def test_no_conversation_is_hidden_silently() -> None:
    """Two processes with 90 each, of which each names 50: the other 80 are told to be there."""
    ninety = {
        name: [row(i + 1, name=f"{name} {i}") for i in range(90)] for name in ("one", "other")
    }
    heard = {
        name: (0.0, told(name, *rows[:MAX_OLDEST], conversations=90))
        for name, rows in ninety.items()
    }
    found = merge(heard)
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (100, 80)
    assert found["totals"]["conversations"] == 180
    found = merge(heard, one=ninety["one"])
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (140, 40)
    found = merge(heard, **ninety)
    assert (len(found["conversations"]), found["totals"]["unlisted"]) == (180, 0)


@pytest.mark.parametrize(
    ("held_for", "lifetime", "state"),
    [(5, 60, "held"), (10, 60, "slow"), (30, 60, "stuck"), (30, None, "stuck"), (99, 600, "held"),
     (100, 600, "slow"), (1, 1.5, "stuck")],
)  # fmt: skip
def test_slow_and_stuck_are_parts_of_the_lifetime(
    held_for: float, lifetime: float | None, state: str
) -> None:
    one = row(7)
    one["holder"] |= {"held_for": held_for, "lifetime": lifetime}
    found = merge({"1": (0.0, told("a", one))})
    assert found["conversations"][0]["state"] == state
    assert found["totals"]["stuck"] == (state == "stuck")


def samples(*each: list[int], **more: Any) -> dict[str, Any]:
    return {"samples": list(each), "spread": [], "failed": [], **more}


def test_samples_are_laid_side_by_side_by_age() -> None:
    one = samples([2, 1, 100], [4, 2, 300], spread=[[1, 2, 3], [4, 5, 6]], failed=[{}, {"Busy": 2}])
    other = samples([6, 3, 200], spread=[[9, 9, 9]], failed=[{"Busy": 1, "LockLost": 1}])
    found = merged([(0.1, one), (STEP + 0.1, other)])
    assert found["turns"] == [(2 + 6) / STEP, 4 / STEP]
    assert found["waiting"] == [4, 2]
    assert found["wait"] == [0.2, 0.3]
    assert found["wait_p50"] == [0.009, 0.004]
    assert (found["turn_p50"], found["turn_p99"]) == ([0.009, 0.005], [0.009, 0.006])
    assert found["failed"] == {"Busy": [1, 2], "LockLost": [1, 0]}


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
    found = merged([(age, samples(*each, spread=each)) for age, each in histories])
    keys = ("turns", "waiting", "wait", "wait_p50", "turn_p50", "turn_p99")
    lengths = {len(found[key]) for key in keys}
    assert len(lengths) == 1
    assert lengths.pop() <= SAMPLES
    recent = [s for age, samples in histories if age < STEP for s in samples]
    assert sum(turns for turns in found["turns"] if turns) * STEP >= sum(s[0] for s in recent)


def test_a_queue_that_does_not_move_is_in_the_percentile() -> None:
    meter = Meter()
    meter.ended(0.5, 0.25)
    meter.sample([9.0])
    meter.sample([])
    assert list(meter.samples) == [(1, 1, 9000), (0, 0, 0)]
    assert list(meter.spread) == [(500, 250, 250), (0, 0, 0)]
    milliseconds = [i / 1000 for i in range(1, 201)]
    assert [percentile(milliseconds, percent) for percent in (50, 99)] == [100, 198]


def others(*fields: bytes) -> list[Snapshot]:
    return parse_snapshots(5000, fields, b"own")


def test_what_is_not_of_our_form_is_passed_over() -> None:
    """What a process of 0.2.0 tells is read; its own entry nobody reads."""
    summary = {**told("a", row(7, 1, 2.0), row(None, 1)), "v": VERSION, "samples": [[1, 2, 3]]}
    good = json.dumps({**summary, "added later": 1}).encode()
    assert others(b"a", b"3000 " + good) == [Snapshot(2.0, {**summary, **ADDED})]
    assert others(b"own", b"3000 " + good) == []
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
        assert others(b"a", text) == []


def test_conversations_are_told_one_by_one_within_a_bound() -> None:
    """What is packed is read again; of more than fits the first are told."""
    rows = [row(7, 1, 2.0, "ä\n"), row(None, 2, 3.0, "b")]
    rows[0]["holder"]["lifetime"] = 60.0
    assert parse_rows(pack_rows(rows).encode()) == rows
    many = [row(None, 1, 1.0, f"{'x' * 250}{i}") for i in range(20_000)]
    packed = pack_rows(many)
    assert len(packed) <= ROWS_BYTES
    assert (read := parse_rows(packed.encode())) is not None
    assert read == many[: len(read)]
    summary = json.dumps({**told("a", row(7)), "v": VERSION}).encode()
    one_by_one = b"4000 " + pack_rows(rows).encode()
    (found,) = others(b"a rows", one_by_one, b"a", b"3000 " + summary)
    assert (found.rows_since, found.rows) == (1.0, rows)
    (found,) = others(b"a", b"3000 " + summary, b"a rows", b'4000 [["x", 1, 2]]')
    assert found.rows is None


STRANGE = [None, True, -1, 1.5, float("nan"), 10**400, "x", "\ud800", "x" * 2000, [], [[]], {}, [{}],
           [None], [[1, 2]], [[1, 2, None]], {"id": 5}, {"fence": None}]  # fmt: skip


HOLDER = {"label": "m", "number": 1, "fence": 7, "held_for": 5.0, "lifetime": 60.0}


@given(st.data())
def test_no_part_of_it_is_trusted(data: st.DataObject) -> None:
    """With any part replaced by anything, it is passed over, or can be merged and sent on."""
    summary: Any = {
        **told("a", row(7, 1, 2.0), row(None)), "v": VERSION, "samples": [[1, 2, 3]],
        "spread": [[1, 2, 3]], "address": "a:1", "version": "1", "uptime": 1.0,
        "stores": {"lock_store": {"ms": 0.5, "problem": ""}}, "reasons": {"Busy": 1},
        "failed": [{"Busy": 1}], "errors": [
            {"ago": 1.0, "status": 500, "reason": "Busy", "conversation": "c", "label": None,
             "text": "x"},
        ],
    }  # fmt: skip
    part, key = summary, data.draw(st.sampled_from(sorted(summary)))
    while isinstance(part[key], (dict, list)) and part[key] and data.draw(st.booleans()):
        part = part[key]
        keys = sorted(part) if isinstance(part, dict) else list(range(len(part)))
        key = data.draw(st.sampled_from(keys))
    part[key] = data.draw(st.sampled_from(STRANGE))
    view = View(others(b"a", b"3000 " + json.dumps(summary).encode()))
    JSONResponse({**view.whole, "rows": view.rows})


@given(st.data())
def test_no_row_is_trusted(data: st.DataObject) -> None:
    """With any part replaced by anything, the rows are passed over, or are whole."""
    rows: Any = json.loads(pack_rows([{**row(7, 1, 2.0), "holder": HOLDER}, row(None)]))
    part: Any = rows
    key = data.draw(st.integers(0, len(part) - 1))
    while isinstance(part[key], list) and data.draw(st.booleans()):
        part = part[key]
        key = data.draw(st.integers(0, len(part) - 1))
    part[key] = data.draw(st.sampled_from(STRANGE))
    if (found := parse_rows(json.dumps(rows).encode())) is not None:
        JSONResponse(found)


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
                {"turns": []},
                {"turns": [{"conversation": "c"}]},
                {**this, "who": "x" * 101},
            ):
                assert (await end("it-breaks", wrong)).status_code == 400

    run(body())


def test_without_an_admin_token_nobody_breaks(run: Run) -> None:
    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            answer = await http.post("/live/break", json={"conversation": "c", "fence": 1})
            assert answer.status_code == 403

    run(body())


def test_a_view_token_opens_the_page_to_be_read_and_nothing_else(run: Run) -> None:
    """And closes it: where one is set nobody reads without a token."""

    async def body() -> None:
        tokens = {"view_token": "it-only-looks", "admin_token": "it-breaks"}
        async with Conversations() as conversations, client(conversations, **tokens) as http:
            places = ("/live", "/live/turns", "/live/conversation?id=c")

            async def each(token: str) -> set[int]:
                headers = {"authorization": f"Bearer {token}"}
                return {(await http.get(path, headers=headers)).status_code for path in places}

            assert [await each(t) for t in ("it-only-looks", "it-breaks", "it-guesses")] == [
                {200}, {200}, {401},
            ]  # fmt: skip
            roles = []
            for token in tokens.values():
                answer = await http.get("/live", headers={"authorization": f"Bearer {token}"})
                roles.append(answer.json()["role"])
            assert roles == ["viewer", "operator"]
            looks = {"authorization": "Bearer it-only-looks"}
            for path in ("/live/break", "/live/letters"):
                assert (await http.post(path, headers=looks, json={})).status_code == 401
            lock = await http.delete("/conversations/c/lock", headers=looks)
            assert lock.status_code == 401

    run(body())


def test_a_conversation_is_opened_with_all_that_is_known_of_it(run: Run) -> None:
    """Holder, queue, transcript; and an id that nobody knows is no error."""

    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            sent = await http.post("/webhooks/rest/webhook", json={"sender": "c", "message": "hi"})
            assert sent.status_code == 200
            async with conversations.turn("c", label="by hand"):
                found = (await http.get("/live/conversation", params={"id": "c"})).json()
            assert found["lock"]["holder"]["label"] == "by hand"
            assert found["lock"]["waiting"] == []
            said = [(e["who"], e["text"]) for e in found["transcript"]["events"]]
            assert said == [("event", "session_started"), ("user", "hi"), ("bot", "hi")]
            unknown = (await http.get("/live/conversation", params={"id": "nobody"})).json()
            assert unknown["lock"]["holder"] is None
            assert unknown["transcript"]["events"] == []
            assert (await http.get("/live/conversation")).status_code == 400

    run(body())


def test_what_operators_do_is_written_down(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Who, why and from where: in the log and on the page, the latest first."""

    async def body() -> None:
        async with (
            Conversations() as conversations,
            client(conversations, admin_token="it-breaks") as http,
        ):
            headers = {"authorization": "Bearer it-breaks"}
            async with conversations.turn("one") as turn:
                one = {"conversation": "one", "fence": turn.fence}
                said = {"who": "anna", "why": "it hangs\nsince 3"}
                ended = {"conversation": "one", "fence": turn.fence + 1}
                answer = await http.post(
                    "/live/break", headers=headers, json={"turns": [ended], **said}
                )
                assert answer.json() == {"broken": 0, "ended": 1}
            answer = await http.post("/live/break", headers=headers, json={**one, **said})
            assert answer.json()["broken"] is False
            last = (await http.get("/live")).json()["audit"]
            assert [(d["action"], d["conversation"], d["who"]) for d in last] == [
                ("break", "one", "anna"), ("break", "", "anna"),
            ]  # fmt: skip
            assert last[0]["why"] == "it hangs\nsince 3"

    run(body())
    lines = [r.getMessage() for r in caplog.records if r.name == "ticketlock.audit"]
    assert len(lines) == 2
    assert all("by 'anna' from" in line and "'it hangs\\nsince 3'" in line for line in lines)


def test_a_wrong_question_is_refused_with_what_is_right(run: Run) -> None:
    async def body() -> None:
        async with Conversations() as conversations, client(conversations) as http:
            for query in ("show=some", "sort=size", "order=up", "start=-1", "limit=0", "limit=x"):
                answer = await http.get(f"/live?{query}")
                assert answer.status_code == 400
                assert query.partition("=")[0] in answer.json()["message"]

    run(body())
