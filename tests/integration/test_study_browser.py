"""The page of a study answered in a real browser, from its file, by keyboard and mouse; then collected."""

from __future__ import annotations

import json

import pytest

from instructx_core.evaluation.study import collect, read_answers
from support import front_end
from support.commands import called
from support.studies import METHODS, folders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with front_end.browser() as started:
        yield started


@pytest.fixture
def study(tmp_path, capsys):
    code, _ = called(capsys, "study", *folders(tmp_path), "-o", tmp_path / "study.html")
    assert code == 0
    return tmp_path / "study.html"


def begin(context, study, rater):
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(study.as_uri())
    page.fill("#rater", rater)
    page.get_by_text("Begin").click()
    page.wait_for_selector(".question.now")
    return page, problems


def keys(page):
    return page.evaluate("() => [...document.querySelectorAll('.question')].map(row => row.dataset.key)")


def save(page, path):
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(path)
    return json.loads(path.read_text())


def test_a_rater_answers_everything_by_keyboard_and_mouse(browser, study, tmp_path, capsys):
    best = next(
        n for n, name in json.loads((tmp_path / "study.key.json").read_text())["methods"].items() if name == "our-model"
    )
    context = browser.new_context(accept_downloads=True, viewport={"width": 1600, "height": 1000})
    page, problems = begin(context, study, "Ann / 1")
    assert not any(name in page.content() for name in METHODS)
    clips = 0
    for number in range(3):
        assert page.inner_text("#place") == f"Page {number + 1} of 3"
        assert page.locator("figure").count() == 4
        clips += page.locator("video").count() == 4
        page.wait_for_function(
            "() => [...document.querySelectorAll('figure img')].every(i => i.complete && i.naturalWidth)"
            " && [...document.querySelectorAll('figure video')].every(v => v.readyState > 1 && !v.error)"
        )
        order = keys(page)
        assert len(order) == 9
        for key in order[:-1]:  # the keys walk from question to question by themselves
            page.keyboard.press("5" if f"|{best}|" in key else "2")
        last = page.locator(".question").last  # the last one with the mouse
        last.locator("button").nth(4 if f"|{best}|" in order[-1] else 1).click()
        page.keyboard.press("ArrowRight")
    assert clips == 1
    assert page.inner_text("#left").startswith("Complete")
    saved = save(page, tmp_path / "a.json")
    assert saved["rater"] == "Ann / 1" and len(saved["answers"]) == 9
    assert not problems
    assert len(read_answers(tmp_path / "a.json").scores) == 27
    outcome = collect([tmp_path / "a.json"])
    means = {score.method: score.mean for score in outcome.scores if score.question == "all"}
    assert means == {"our-model": 5, "the-other": 2, "plainmodel": 2}
    code, said = called(capsys, "study", "--collect", tmp_path / "a.json")
    assert code == 0 and said.splitlines()[4].startswith("| our-model | 5.00")
    context.close()


def test_progress_stays_in_the_browser(browser, study, tmp_path):
    context = browser.new_context(accept_downloads=True)
    page, _ = begin(context, study, "Bo")
    for digit in "345":
        page.keyboard.press(digit)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    page.keyboard.press("ArrowUp")  # back to the first question of this page
    page.keyboard.press("2")
    before = keys(page)
    page.close()
    page, _ = begin(context, study, "Bo")
    assert page.inner_text("#place") == "Page 2 of 3" and page.inner_text("#left") == "23 ratings left"
    assert keys(page) == before
    saved = save(page, tmp_path / "b.json")
    scores = [score for answer in saved["answers"] for score in answer["scores"].values()]
    assert sorted(scores) == [2, 3, 4, 5]
    other, _ = begin(context, study, "Cy")  # another rater in the same browser begins anew
    assert other.inner_text("#left") == "27 ratings left"
    context.close()


def test_a_browser_that_keeps_nothing(browser, study, tmp_path):
    context = browser.new_context(accept_downloads=True)
    denied = (
        "Object.defineProperty(window, 'localStorage', "
        "{ get() { throw new DOMException('denied', 'SecurityError'); } })"
    )
    context.add_init_script(denied)
    page, problems = begin(context, study, "Di")
    assert page.is_visible("#unkept")
    page.keyboard.press("4")
    assert page.inner_text("#left") == "26 ratings left"
    assert save(page, tmp_path / "d.json")["answers"] and not problems
    context.close()
    page, _ = begin(browser.new_context(), study, "Di")
    assert not page.is_visible("#unkept")
    page.context.close()


def test_methods_stand_in_another_order_for_each_rater_and_item(browser, study):
    context = browser.new_context()
    orders = set()
    for rater in "abcd":
        page, _ = begin(context, study, rater)
        for _ in range(3):
            found = [key.split("|") for key in keys(page)[::3]]
            orders.add((found[0][0], tuple(method for _, method, _ in found)))
            page.keyboard.press("ArrowRight")
        page.close()
    for item in "012":
        assert len({order for place, order in orders if place == item}) > 1
    context.close()
