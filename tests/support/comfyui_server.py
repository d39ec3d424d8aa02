"""A real ComfyUI server on the CPU in a folder of its own, with this pack as a plain clone in custom_nodes."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import comfyui
from support.places import ROOT

START_LIMIT, RUN_LIMIT = 600, 900  # seconds; a busy machine takes its time


class Server:
    """Started by `with`; everything it writes is under `base`.

    `environment` is added to the process's own, `options` to its command line; node packs may be there already.
    """

    def __init__(self, base: Path, environment: dict[str, str] | None = None, options: Sequence[str] = ()) -> None:
        self.environment = environment or {}
        self.options = options
        self.folder, self.python = comfyui.find()
        self.base = base
        self.log = base / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        nodes = self.base / "custom_nodes"
        nodes.mkdir(parents=True, exist_ok=True)
        pack = nodes / "instructx"
        if not pack.is_symlink():
            pack.symlink_to(ROOT, target_is_directory=True)
        command = [self.python, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(self.base)]
        command += ["--preview-method", "auto", *self.options]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | self.environment
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.5)
        return self

    def kill(self) -> None:
        """As power that fails, or a process that is out of memory."""
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer as JSON; of a refused prompt, the errors."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def queue(self, prompt: dict[str, Any]) -> str:
        """The id of a queued prompt."""
        answer = self.post("/prompt", {"prompt": prompt})
        assert "prompt_id" in answer, answer
        return answer["prompt_id"]

    def wait(self, number: str) -> dict[str, Any]:
        """The history entry of a prompt that has ended."""
        deadline = time.monotonic() + RUN_LIMIT
        while time.monotonic() < deadline:
            history = self.get(f"/history/{number}")
            if number in history:
                return history[number]
            time.sleep(0.2)
        raise TimeoutError(self.log.read_text()[-4000:])

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        return self.wait(self.queue(prompt))

    def resident(self) -> int:
        """Bytes that the server's process holds in memory (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def _answers(self) -> bool:
        try:
            self.get("/system_stats")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


def succeeded(entry: dict[str, Any]) -> bool:
    return entry["status"]["status_str"] == "success"


def cached(entry: dict[str, Any]) -> set[str]:
    """Ids of the nodes that were not run because nothing before them had changed."""
    return {node for kind, data in entry["status"]["messages"] if kind == "execution_cached" for node in data["nodes"]}


def files(entry: dict[str, Any], base: Path) -> list[Path]:
    """What the output nodes of a run saved, temporary previews not among them."""
    found = [
        item
        for output in entry["outputs"].values()
        for items in output.values()
        if isinstance(items, list)
        for item in items
    ]
    return [
        base / "output" / item["subfolder"] / item["filename"]
        for item in found
        if isinstance(item, dict) and item.get("type") == "output"
    ]
