"""Headless Chromium over a pair of pipes (its DevTools protocol), with nothing installed for it.

with Chromium(profile_folder) as browser:
    page = browser.open(file, width=390)
    page.ask("document.title"); page.complaints; page.picture(path)
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DEADLINE_S = 60.0


def chromium_path() -> str | None:
    """Where the browser is; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser that reads commands from one pipe and writes to another."""

    def __init__(self, profile: Path) -> None:
        path = chromium_path()
        assert path is not None
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [
            *(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--hide-scrollbars", "--disable-background-networking", "--no-first-run"),
            *(f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"),
        ]
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._left = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, file: Path, *, width: int, dark: bool = False, media: str = "screen") -> Page:
        """A page at a width in pixels, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", session, media=media, features=scheme)
        self.call("Page.navigate", session, url=file.resolve().as_uri())
        self._until(
            lambda event: event.get("method") == "Page.loadEventFired" and event["sessionId"] == session
        )
        page.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """What the browser answers."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda event: event.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted: Any) -> dict[str, Any]:
        """The first message that is `wanted`; the events before it are kept."""
        for place, event in enumerate(self.events):
            if wanted(event):
                return self.events.pop(place)
        while True:
            message = self._next()
            if wanted(message):
                return message
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE_S
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no word from the browser for {DEADLINE_S:.0f} s"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has ended"
            self._left += piece
        message, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """One open page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise's once it is there."""
        found = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @property
    def busy_s(self) -> float:
        """Processor time of the page's thread until now, seconds."""
        self._browser.call("Performance.enable", self._session)
        found = self._browser.call("Performance.getMetrics", self._session)["metrics"]
        (spent,) = (each["value"] for each in found if each["name"] == "ThreadTime")
        return float(spent)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """What has happened on this page."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in mine if event.get("method") in methods]

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings of the console, and exceptions."""
        logged = self.events("Log.entryAdded", "Runtime.exceptionThrown")
        said = self.events("Runtime.consoleAPICalled")
        return logged + [event for event in said if event["type"] in ("error", "warning", "assert")]

    @property
    def asked_for(self) -> list[str]:
        """Addresses that the page has asked for; what stands in it (data:) is none."""
        sent = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [address for address in sent if not address.startswith("data:")]

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        found = self._browser.call(
            "Page.captureScreenshot", self._session, format="png", captureBeyondViewport=True
        )
        file.write_bytes(base64.b64decode(found["data"]))
