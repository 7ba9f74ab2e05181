"""A bot server whose Redis has a replica that is stopped: what clients and operators see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from conftest import until
from integration.test_inbox import accept, outcome
from servers.bot_server import Replica, replicas, write_files
from servers.chromium import chromium
from servers.replicated import Replicated, go_on, pause


def deployment(folder: Path, servers: Replicated, degraded: str) -> None:
    write_files(folder, servers.master.url)
    path = folder / "endpoints.yml"
    keys = f"  durability: replicas\n  durability_timeout: 2\n  durability_degraded: {degraded}\n"
    path.write_text(path.read_text().replace("tracker_store:", f"{keys}tracker_store:"))


async def problem(http: httpx.AsyncClient, at: Replica, *, there: bool) -> str:
    """What /live says of durability, once that is something, or nothing any more."""
    while True:
        found = (await http.get(f"{at.url}/live")).json()["problems"]
        assert found.keys() <= {"durability"}
        if bool(found) == there:
            return str(found.get("durability", ""))
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("degraded", ["serve", "refuse"])
async def test_a_replica_of_redis_is_stopped(tmp_path: Path, degraded: str) -> None:
    """All see it: who sends, the log, the metrics, the page, of the other bot server too."""
    with Replicated() as servers:
        (replica,) = servers.replicas
        deployment(tmp_path, servers, degraded)
        async with httpx.AsyncClient(timeout=60) as http:
            with replicas(tmp_path, [], []) as (one, two), chromium() as browser:
                await outcome(http, one, await accept(http, one, "a", "before"))
                await problem(http, one, there=False)
                pause(replica)
                body = {"sender": "b", "message": "text", "message_id": "m"}
                answers = [
                    await http.post(f"{one.url}/webhooks/rest/webhook{words}", json=body)
                    for words in ("?async=true", "")
                ]
                place = f"127.0.0.1:{servers.master.port}"
                why = f"Redis at {place}: 0 of 1 replica acknowledged within 2 s"
                if degraded == "serve":
                    assert [answer.status_code for answer in answers] == [202, 200]
                else:
                    assert [answer.status_code for answer in answers] == [503, 503]
                    assert answers[1].json()["reason"] == "NotDurable"
                    assert "it may have been accepted" in answers[1].text
                    assert place not in answers[1].text  # that is for operators
                    assert answers[1].headers["retry-after"] == "2"
                assert await problem(http, one, there=True) == why
                told = [line for line in one.log().splitlines() if "answered 503" in line]
                assert len(told) == (2 if degraded == "refuse" else 0)  # each refusal once
                for line in told:
                    assert "message 'm' of conversation 'b'" in line
                    assert "None" not in line
                said = "nothing is granted" if degraded == "refuse" else "turns are granted"
                assert one.log().count(why) >= 1
                assert said in one.log()
                gauge = f'ticketlock_durability_degraded{{server="{place}"}}'
                assert f"{gauge} 1.0" in (await http.get(f"{one.url}/metrics")).text
                # The other one has asked for nothing: it knows of the first one's report.
                assert (await problem(http, two, there=True)).endswith(f": {why}")
                browser.open(f"{two.url}/")
                browser.until(
                    "document.querySelector('#problems').innerText"
                    ".includes('accepted messages are not durable') && true"
                )
                go_on(replica)
                await problem(http, one, there=False)
                await problem(http, two, there=False)
                assert f"{gauge} 0.0" in (await http.get(f"{one.url}/metrics")).text
                answer = await http.post(f"{one.url}/webhooks/rest/webhook", json=body)
                assert answer.status_code == 200
                assert [each["text"] for each in answer.json()] == ["begun: text", "done: text"]
                await until(lambda: "durable again" in one.log(), "the end in the log")
                if degraded == "refuse":
                    assert one.log().count("NotDurable") < 20  # nothing goes round and round
