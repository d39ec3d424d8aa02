"""Answers are parsed strictly; a service is asked with its key, retried, and never redirected; a log repeats itself."""

import http.server
import json
import threading
from typing import ClassVar

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation.judges import (
    Exhibit,
    Question,
    RecordedJudge,
    RefusedQuestion,
    Scale,
    UnreadableAnswer,
    parse,
    remote,
)
from instructx_core.evaluation.judges.remote import RemoteJudge

TWO = Question("words", ("edited",), {"success": Scale(0, 10), "restraint": Scale(0, 10)})
NAMED = Question("words", ("edited",), {"Quality": Scale(1, 5)}, lines=True)
THREE = Question("words", ("edited",), lines=True, count=3)


@pytest.mark.parametrize(
    "text",
    [
        '{"success": 7, "restraint": 4.5}',
        '  {"restraint": 4.5, "reason": "a {b}", "success": 7}\n',
        '```json\n{"success": 7, "restraint": 4.5}\n```',
        '```\n{"success": 7, "restraint": 4.5}\n```',
    ],
)
def test_json_answers(text):
    assert parse(TWO, text) == {"success": 7, "restraint": 4.5}


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "[7, 4]", "null", "success: 7, restraint: 4", '{"success": 7}', "{" * 5000,
        '{"success": "7", "restraint": 4}', '{"success": 11, "restraint": 4}', '{"success": -1, "restraint": 4}',
        '{"success": NaN, "restraint": 4}', '{"success": Infinity, "restraint": 4}',
        '{"success": 1' + "0" * 400 + ', "restraint": 4}',
        '{"success": true, "restraint": 4}', '{"success": null, "restraint": 4}',
        '{"success": [7], "restraint": 4}', '{"scores": {"success": 7, "restraint": 4}}',
        '{"success": 7, "success": 2, "restraint": 4}', 'Sure! {"success": 7, "restraint": 4}',
        '{"success": 7, "restraint": 4} I hope this helps', '{"success": 7, "restraint": 4' + " " * 30000 + "}",
    ],
)  # fmt: skip
def test_other_answers_are_none(text):
    with pytest.raises(UnreadableAnswer):
        parse(TWO, text)


def test_answers_in_lines():
    assert parse(NAMED, "The edit is fine.\nQuality: 4\nOther: 9") == {"Quality": 4}
    assert parse(NAMED, "**Quality:** 4") == {"Quality": 4}
    text = (
        "Brief reasoning: it is good.\nPrompt Compliance: 5\nVisual Seamlessness: 4\n- Physical & Detail Integrity: 3."
    )
    assert list(parse(THREE, text).values()) == [5, 4, 3]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (NAMED, "Quality: 4\nQuality: 5"),
        (NAMED, "Quality: 6"),
        (NAMED, "Quality: 4/5"),
        (NAMED, "Quality: four"),
        (NAMED, "quality 4"),
        (THREE, "A: 5\nB: 4"),
        (THREE, "A: 5\nB: 4\nC: 3\nD: 2"),
        (THREE, "A: 5\nA: 4\nC: 3"),
        (THREE, "A: 5\nB: 4\nC: 0"),
    ],
)
def test_other_lines_are_none(question, text):
    with pytest.raises(UnreadableAnswer):
        parse(question, text)


class Service(http.server.BaseHTTPRequestHandler):
    replies: ClassVar[list[tuple[int, dict, object]]] = []
    seen: ClassVar[list[tuple[str, dict, dict]]] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, dict(self.headers), body))
        code, headers, value = self.replies.pop(0)
        data = json.dumps(value).encode()
        self.send_response(code)
        for name, content in headers.items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("INSTRUCTX_JUDGE_KEY", "secret")
    Service.replies, Service.seen = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def good(text="fine"):
    usage = {"prompt_tokens": 900, "completion_tokens": 7}
    return 200, {}, {"choices": [{"message": {"content": text}}], "usage": usage}


def ask(url):
    return RemoteJudge(url, "some-model").ask("a", 0, "how is it?", [Exhibit("Edited", torch.zeros(2, 8, 8, 3))])


def test_a_service_is_asked_with_pictures_and_key(service):
    Service.replies[:] = [good()]
    answer = ask(service)
    assert (answer.text, answer.prompt_tokens, answer.answer_tokens) == ("fine", 900, 7)
    ((path, headers, body),) = Service.seen
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body["model"] == "some-model" and body["temperature"] == 0
    kinds = [part["type"] for part in body["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "image_url", "text"]
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_service_without_a_key(service, monkeypatch):
    monkeypatch.delenv("INSTRUCTX_JUDGE_KEY")
    Service.replies[:] = [good()]
    ask(service)
    assert "Authorization" not in Service.seen[0][1]


def test_busy_services_are_tried_again(service):
    Service.replies[:] = [(429, {"Retry-After": "0"}, {}), (503, {}, {}), good()]
    assert ask(service).text == "fine" and len(Service.seen) == 3


@pytest.mark.parametrize("said", ["nan", "inf", "soon"])
def test_a_pause_that_is_no_number_is_our_own(service, said):
    Service.replies[:] = [(429, {"Retry-After": said}, {}), good()]
    assert ask(service).text == "fine"


def test_a_service_that_stays_busy(service):
    Service.replies[:] = [(500, {}, {"error": "overloaded"})] * remote.TRIES
    with pytest.raises(InputError, match="500.*overloaded.*5 times"):
        ask(service)
    assert len(Service.seen) == remote.TRIES


@pytest.mark.parametrize(("code", "words"), [(401, "INSTRUCTX_JUDGE_KEY"), (400, "400"), (404, "404")])
def test_refusals_are_not_repeated(service, code, words):
    Service.replies[:] = [(code, {}, {"error": "no"})]
    with pytest.raises(InputError, match=words) as refused:
        ask(service)
    assert len(Service.seen) == 1 and "secret" not in str(refused.value)
    assert isinstance(refused.value, RefusedQuestion) == (code == 400)


def test_a_key_follows_no_redirection(service):
    Service.replies[:] = [(302, {"Location": "http://127.0.0.1:1/v1"}, {})]
    with pytest.raises(InputError, match="302"):
        ask(service)
    assert len(Service.seen) == 1


@pytest.mark.parametrize("value", [{}, {"choices": []}, {"choices": [{"message": {}}]}, [1], "text"])
def test_replies_of_another_kind(service, value):
    Service.replies[:] = [(200, {}, value)]
    with pytest.raises(InputError, match="chat completions"):
        ask(service)


@pytest.mark.parametrize(
    "reply",
    [
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": Infinity}}',
        b"[" * 200_000,
    ],
)
def test_replies_that_python_s_json_trips_over(reply):
    with pytest.raises(InputError, match="chat completions"):
        remote._answer(reply, "http://host/v1")


def test_an_answer_without_words_is_empty(service):
    Service.replies[:] = [(200, {}, {"choices": [{"message": {"content": None}}], "usage": None})]
    assert ask(service).text == ""


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    with pytest.raises(InputError, match="no connection"):
        ask("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1", "http://", "file:///etc/passwd", "https://me:pw@host/v1", "host:80", "http://host:80a0/v1",
        "http://a host/v1", "http://host/v1\n", "http://[::1/v1",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match="not a judge's address") as refused:
        RemoteJudge(url, "m")
    assert "\n" not in str(refused.value)


def test_a_reply_that_is_cut_is_asked_for_again(service):
    Service.replies[:] = [(200, {"Transfer-Encoding": "chunked"}, {}), good()]  # its first line is no length
    assert ask(service).text == "fine"


@pytest.mark.parametrize("code", [503, 400])
def test_a_refusal_that_is_cut_is_told_by_its_status(service, code):
    Service.replies[:] = [(code, {"Transfer-Encoding": "chunked"}, {})] * remote.TRIES
    with pytest.raises(InputError, match=f"did not answer: status {code}"):
        ask(service)
    assert len(Service.seen) == (remote.TRIES if code == 503 else 1)


def test_a_key_of_two_lines_is_refused_unseen(service, monkeypatch):
    monkeypatch.setenv("INSTRUCTX_JUDGE_KEY", "secret\n")
    Service.replies[:] = [good()]
    ask(service)
    assert Service.seen[0][1]["Authorization"] == "Bearer secret"
    monkeypatch.setenv("INSTRUCTX_JUDGE_KEY", "sec\nret")
    with pytest.raises(InputError, match="a key cannot have") as refused:
        ask(service)
    assert "ret" not in str(refused.value)


def test_a_log_repeats_itself(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"key": "a", "judge": "GPT-4o", "answers": [["bad", "{}"], ["x"]]}\n')
    judge = RecordedJudge(path)
    assert judge.name == "GPT-4o (recorded)"
    assert [judge.ask("a", 0, "", []).text for _ in range(3)] == ["bad", "{}", "{}"]
    assert judge.ask("a", 1, "", []).text == "x"
    for key, number in (("b", 0), ("a", 2)):
        with pytest.raises(InputError, match="no answer"):
            judge.ask(key, number, "", [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"key": "a", "judge": "x"}', "answers"),
        ('{"key": "a", "answers": [["x"]]}', "judge"),
        ('{"key": "a", "judge": "x", "answers": [["x"]]}\n{"key": "b", "judge": "y", "answers": [["x"]]}', "2 judges"),
        ("", "0 judges"),
        ("{", "JSON"),
    ],
)
def test_logs_that_cannot_be_repeated(tmp_path, text, words):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InputError, match=words):
        RecordedJudge(tmp_path / "log.jsonl")
