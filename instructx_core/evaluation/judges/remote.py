"""A judge behind any service with OpenAI's chat completions API, at an address that the user gives; no default.

- The key is read from the environment (INSTRUCTX_JUDGE_KEY) and sent only to that address; local servers need none.
- Status 408, 409, 429, most 5xx, and failed connections are retried with growing pauses; other errors raise at once.
- Status 400, 413 and 422 are about the question, such as its content or size: the next one may be answered.
- Pictures are sent as PNG inside the message.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import torch

from ...errors import InputError
from ...images import to_uint8
from ...words import one_line, quoted
from .question import Answer, Exhibit, RefusedQuestion

KEY = "INSTRUCTX_JUDGE_KEY"
TRIES = 5
FIRST_PAUSE = 2.0  # seconds, doubled each time; a Retry-After header overrides it, up to LONGEST_PAUSE
LONGEST_PAUSE = 120.0
TIMEOUT = 300.0  # seconds per attempt
MOST_ANSWER = 1 << 20  # bytes of a reply
ABOUT_THE_QUESTION = {400, 413, 422}
AGAIN = {408, 409, 429, 500, 502, 503, 504, 529}


class RemoteJudge:
    """A model served at `url`, such as https://api.example.com/v1 or http://127.0.0.1:8000/v1.

    Raises:
        InputError: not an http(s) address, or one with a user name or password; a key that does not fit in a header.
    """

    def __init__(self, url: str, model: str) -> None:
        if not _is_address(url):
            raise InputError(f"{quoted(url)} is not a judge's address; give one such as http://127.0.0.1:8000/v1.")
        self.secret = os.environ.get(KEY, "").strip()
        if not (self.secret.isascii() and self.secret.isprintable()):
            raise InputError(f"{KEY} holds characters that a key cannot have; set it again.")
        self.url = url.rstrip("/") + "/chat/completions"
        self.model = model
        self.name = model
        self.opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, key: str, number: int, words: str, shown: list[Exhibit]) -> Answer:
        content: list[dict[str, Any]] = []
        for one in shown:
            content.append({"type": "text", "text": f"{one.title}:"})
            content += [{"type": "image_url", "image_url": {"url": _data(frame)}} for frame in one.frames]
        content.append({"type": "text", "text": words})
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        return _answer(self._post(json.dumps(body).encode()), self.url)

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            request = urllib.request.Request(self.url, body, headers, method="POST")
            wait = pause
            try:
                with self.opener.open(request, timeout=TIMEOUT) as reply:
                    return reply.read(MOST_ANSWER)
            except urllib.error.HTTPError as error:
                problem = f"status {error.code} ({_said(error)})"
                if error.code in (401, 403):
                    problem += f"; put its key into {KEY}"
                if error.code not in AGAIN:
                    kind = RefusedQuestion if error.code in ABOUT_THE_QUESTION else InputError
                    raise kind(f"The judge at {self.url} did not answer: {problem}.") from error
                wait = _retry_after(error.headers.get("Retry-After"), pause)
            except (OSError, http.client.HTTPException) as error:  # URLError is an OSError; a truncated reply
                problem = f"no connection ({one_line(getattr(error, 'reason', error), 200)})"
            if not left:
                raise InputError(f"The judge at {self.url} did not answer: {problem}, {TRIES} times.")
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("unreachable")


def _is_address(url: str) -> bool:
    """Whether this is an http(s) address with a host, without user name and password."""
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urllib.parse.urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:  # invalid port or brackets
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: the key must not reach any other address."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(reply: bytes, url: str) -> Answer:
    try:
        value = json.loads(reply)
        text = value["choices"][0]["message"]["content"]
        usage = value.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"The judge at {url} did not answer as chat completions do; check its address.") from error
    return Answer(text if isinstance(text, str) else "", *counts)  # a refusal has no text: it counts as unreadable


def _said(error: urllib.error.HTTPError) -> str:
    """The start of an error's body; what broke the connection, if it was cut."""
    try:
        with error:
            return one_line(error.read(2000).decode("utf-8", "replace"), 200)
    except (OSError, http.client.HTTPException) as cut:
        return one_line(cut, 200)


def _retry_after(value: str | None, otherwise: float) -> float:
    try:
        seconds = float(value or "")
    except ValueError:
        return otherwise
    return min(max(seconds, 0.0), LONGEST_PAUSE) if math.isfinite(seconds) else otherwise


def _data(frame: torch.Tensor) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(to_uint8(frame).numpy()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
