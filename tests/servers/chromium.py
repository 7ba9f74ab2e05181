"""A headless Chromium, driven by its DevTools protocol over two pipes: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import missing

#: Puts two descriptors where the browser wants them, and becomes the browser.
_START = """
import os, sys
pipes = [os.dup(int(number)) for number in sys.argv[1:3]]  # neither overwrites the other
for wanted, pipe in enumerate(pipes, 3):
    os.dup2(pipe, wanted)
    os.set_inheritable(wanted, True)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page.

    Attributes:
        complaints: what the console has said at the levels of warnings and errors, exceptions
            that nobody caught, and requests that failed.
        requests: the addresses that the page has asked for.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._rest = b""
        self._calls = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the protocol; what comes meanwhile is noted."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(time.monotonic() + 20)
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            readable, _, _ = select.select([self._back], [], [], max(0.0, end - time.monotonic()))
            assert readable, "the browser does not answer"
            chunk = os.read(self._back, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] != "log":
            self.complaints.append(json.dumps(params["args"]))
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in (
            "error",
            "warning",
        ):
            self.complaints.append(json.dumps(params["entry"]))

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page; promises are awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 15) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, (expression, self.text(), self.complaints)
            time.sleep(0.05)
        return value

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def text(self, selector: str = "body") -> str:
        """What can be read in an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element, wherever the page has it."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self._mouse(*box)

    def _mouse(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    # -- by role and name, as somebody who listens to the page finds things ---------------------

    def found(self, role: str, name: str | re.Pattern[str]) -> list[int]:
        """The elements of a role with an accessible name, or one that a pattern is found in."""
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        exact = {"accessibleName": name} if isinstance(name, str) else {}
        nodes = self.call("Accessibility.queryAXTree", nodeId=root, role=role, **exact)["nodes"]
        return [
            node["backendDOMNodeId"]
            for node in nodes
            if not node["ignored"]
            and (isinstance(name, str) or name.search(node.get("name", {}).get("value", "")))
        ]

    def element(self, role: str, name: str | re.Pattern[str], seconds: float = 15) -> int:
        """The first such element, waited for."""
        end = time.monotonic() + seconds
        while not (found := self.found(role, name)):
            assert time.monotonic() < end, (role, name, self.text(), self.complaints)
            time.sleep(0.05)
        return found[0]

    def press(self, role: str, name: str | re.Pattern[str]) -> None:
        """Click in the middle of an element."""
        x1, y1, _, _, x2, y2, _, _ = self._steady(self.element(role, name))
        self._mouse((x1 + x2) / 2, (y1 + y2) / 2)

    def _steady(self, node: int, seconds: float = 15) -> list[float]:
        """Where an element is once the page has put it there: a click would miss one that moves."""
        end, before = time.monotonic() + seconds, None
        while True:
            self.call("DOM.scrollIntoViewIfNeeded", backendNodeId=node)
            model = self.call("DOM.getBoxModel", backendNodeId=node)["model"]
            place: list[float] = model["content"]
            if place == before:
                return place
            assert time.monotonic() < end, f"it does not stand still: {before}, {place}"
            before = place
            time.sleep(0.05)

    def fill(self, role: str, name: str | re.Pattern[str], text: str) -> None:
        """Put a text into a field, as if it was typed, in place of what is there."""
        node = self.element(role, name)
        self.call("DOM.focus", backendNodeId=node)
        self.run("document.activeElement.select()")
        self.type(text)

    def read(self, role: str, name: str | re.Pattern[str]) -> str:
        """What can be read in an element."""
        node = self.call("DOM.resolveNode", backendNodeId=self.element(role, name))["object"]
        answer = self.call(
            "Runtime.callFunctionOn", objectId=node["objectId"], returnByValue=True,
            functionDeclaration="function () { return this.innerText; }",
        )  # fmt: skip
        return str(answer["result"]["value"])

    def until_read(
        self, role: str, name: str | re.Pattern[str], pattern: str, seconds: float = 15
    ) -> str:
        """What can be read in an element, once a pattern is found in it, across lines."""
        end = time.monotonic() + seconds
        while not re.search(pattern, text := self.read(role, name), re.DOTALL):
            assert time.monotonic() < end, (pattern, text, self.complaints)
            time.sleep(0.05)
        return text

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A picture of the whole page, or of what the window shows: a `.png`, or a `.webp`, which
        is a third of its size."""
        options = {"format": "webp", "quality": 90} if path.suffix == ".webp" else {"format": "png"}
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **options)
        path.write_bytes(base64.b64decode(answer["data"]))


def program() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    missing("Chromium", "apt-get install chromium")
    raise AssertionError("missing() always raises")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser with a profile of its own until the block ends."""
    command = [
        program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--remote-debugging-pipe", "--hide-scrollbars", "about:blank",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        there, to = os.pipe()
        back, here = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(there), str(here), *command,
             f"--user-data-dir={folder}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(there, here), start_new_session=True, env={**os.environ, "HOME": folder},
        )  # fmt: skip
        os.close(there)
        os.close(here)
        try:
            yield Browser(to, back)
        finally:
            os.close(to)
            os.close(back)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
