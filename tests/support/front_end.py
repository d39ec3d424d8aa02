"""The real ComfyUI front end without a ComfyUI: its PyPI package, served by a small stand-in that answers questions.

`/object_info` is what golden/object_info.json recorded from a real server. Nothing is executed here: what this
proves is that workflows load, link and turn into prompts as they should, and nothing about sampling.
INSTRUCTX_FRONT_END names the folder of another version's package.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import workflow_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

# Answers that the front end waits for; anything else below /api is an empty object.
ANSWERS: dict[str, Any] = {
    "/api/users": {"storage": "server", "migrated": True},
    "/api/settings": {
        "Comfy.TutorialCompleted": True,
        "Comfy.InstalledVersion": "1.0.0",
        "Comfy.Workflow.ShowMissingNodesWarning": True,
    },
    "/api/extensions": [],
    "/api/embeddings": [],
    "/api/userdata": [],
    "/api/v2/userdata": [],
    "/api/experiment/models": [],
    "/api/models": [],
    "/api/queue": {"queue_running": [], "queue_pending": []},
    "/api/history": {},
    "/api/prompt": {"exec_info": {"queue_remaining": 0}},
    "/api/system_stats": {
        "system": {
            "os": "linux",
            "python_version": "3",
            "comfyui_version": "0.33.0",
            "argv": [],
            "embedded_python": False,
            "pytorch_version": "2",
        },
        "devices": [],
    },
}
STATUS = {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "stand-in"}}


@contextmanager
def stand_in() -> Iterator[str]:
    """The address of the stand-in, running in a thread of its own; skips loudly where a package is missing."""
    web = pytest.importorskip("aiohttp.web", reason="NO FRONT END WAS TESTED: install the extra `browser`")
    package = pytest.importorskip(
        "comfyui_frontend_package", reason="NO FRONT END WAS TESTED: install the extra `browser`"
    )
    static = Path(os.environ.get("INSTRUCTX_FRONT_END") or str(files(package))) / "static"
    object_info = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))

    async def answer(request: Any) -> Any:
        if request.path in ("/ws", "/api/ws"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_json(STATUS)
            async for _ in socket:
                pass
            return socket
        if request.path.startswith("/api/"):
            known = object_info if request.path == "/api/object_info" else ANSWERS.get(request.path, {})
            return web.json_response(known)
        file = static / (request.path.lstrip("/") or "index.html")
        return web.FileResponse(file) if file.is_file() else web.Response(status=404)

    loop = asyncio.new_event_loop()
    ready: list[int] = []
    started = threading.Event()

    async def serve() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.append(site._server.sockets[0].getsockname()[1])
        started.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield f"http://127.0.0.1:{ready[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def find_chromium() -> str:
    """Chromium's path; skips loudly where it or playwright is missing."""
    pytest.importorskip("playwright.sync_api", reason="NO BROWSER WAS USED: install the extra `browser`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("NO BROWSER WAS USED: there is no chromium on the PATH")
    return chromium


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium; skips loudly where there is none."""
    chromium = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


@contextmanager
def page(url: str, seconds: int = 180) -> Iterator[Page]:
    """Chromium with the front end open and ready; skips loudly where there is none."""
    with browser() as started:
        opened = started.new_page(viewport={"width": 1920, "height": 1080})
        opened.set_default_timeout(seconds * 1000)
        opened.add_init_script("localStorage.setItem('Comfy.TutorialCompleted', 'true')")
        opened.goto(url)
        opened.wait_for_function("() => window.app && window.app.graph && window.app.isGraphReady !== false")
        yield opened


def load(opened: Page, workflow: dict[str, Any]) -> None:
    """Put a workflow onto the canvas, as dropping its file does."""
    opened.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)


def prompt(opened: Page) -> dict[str, Any]:
    """The prompt that Run would post."""
    return json.loads(opened.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).output)"))


def problems(opened: Page) -> dict[str, Any]:
    """Node types that the front end does not know, and links that it dropped."""
    return opened.evaluate(
        """() => {
            const nodes = window.app.graph.nodes;
            return {
                missing: nodes
                    .filter(n => n.has_errors || (!n.constructor.nodeData && n.type !== 'MarkdownNote'))
                    .map(n => n.type),
                links: [...window.app.graph.links.values()].length,
            };
        }"""
    )
