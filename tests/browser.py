"""A real Chromium, driven over its debugging pipe as a person would: by what is written on things."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium")
SECONDS = 90
"""For a page to show something: many times what it takes, so that only a wrong page fails."""

FIND = """(() => {
  const found = [...document.querySelectorAll("a, button, label, [role=radio], [role=tab], span")]
    .findLast(element => (element.innerText || "").trim() === TEXT && element.offsetParent);
  if (!found) return null;
  found.scrollIntoView({block: "center"});
  const box = found.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


class Browser:
    def __init__(self, profile: Path, *more: str) -> None:
        """Start with an empty profile. more: further options of Chromium."""
        ours, self.commands = os.pipe()
        self.answers, theirs = os.pipe()
        # Neither of them the 3 or 4 that the other becomes.
        theirs_in, theirs_out = (fcntl.fcntl(pipe, fcntl.F_DUPFD, 20) for pipe in (ours, theirs))
        options = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--window-size=1600,1200", f"--user-data-dir={profile}", "--remote-debugging-pipe"),
        )
        # Chromium reads commands from its file 3 and answers on 4.
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-',
                "bash",
                str(CHROMIUM),
                *options,
                *more,
                "about:blank",
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for pipe in (ours, theirs, theirs_in, theirs_out):
            os.close(pipe)
        self.sent, self.received, self.session = 0, b"", ""
        self.attach("about:blank")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=SECONDS)
        os.close(self.commands)
        os.close(self.answers)

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.received:
                chunk = os.read(self.answers, 1 << 16)
                assert chunk, "the browser has ended"
                self.received += chunk
            text, _, self.received = self.received.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]

    def attach(self, address: str) -> None:
        """Turn to the tab with this in its address."""
        found = self.until(
            lambda: [
                target
                for target in self.call("Target.getTargets")["targetInfos"]
                if target["type"] == "page" and address in target["url"]
            ],
            f"a tab at {address}",
        )
        self.session = self.call("Target.attachToTarget", targetId=found[0]["targetId"], flatten=True)["sessionId"]

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def text(self) -> str:
        """What the page shows."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait(self, *words: str) -> str:
        """What the page shows, once that has all of these words in it and its scripts have run."""
        loaded = 'document.readyState === "complete"'
        self.until(lambda: self.evaluate(loaded) and all(word in self.text() for word in words), f"{words}")
        return self.text()

    def click(self, text: str) -> None:
        """Press the mouse on what has this written on it."""
        x, y = self.until(lambda: self.evaluate(FIND.replace("TEXT", json.dumps(text))), f"{text} to click")
        for kind, button, count in (
            ("mouseMoved", "none", 0),
            ("mousePressed", "left", 1),
            ("mouseReleased", "left", 1),
        ):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=count)

    def press(self, *keys: str) -> None:
        """Press keys one after another: Tab, Enter, Space."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}
        for key in keys:
            number, text = codes[key]
            named = {"key": text if key == "Space" else key, "code": key, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file for an input of that kind."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def drop(self, selector: str, file: Path) -> None:
        """Drag a file from outside onto an element and drop it."""
        x, y = self.evaluate(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def accessible(self) -> list[tuple[str, str]]:
        """The role and the name of everything that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node.get("ignored")
        ]

    def screenshot(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def until(self, condition: Any, what: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, f"no {what} in:\n{self.text()}"
            time.sleep(0.2)
        return found
