"""The nodes inside a real ComfyUI process, against the library: one process runs checks of tests/comfyui/checks."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from support import comfyui, doors, golden_runs, kiwi_model

HERE = Path(__file__).resolve().parent / "checks"
SMALLER = "tiny-at-72-pixels"  # as checks/kit.py names it


def named_checks():
    """Every check's name, marked slow where it is decorated so."""
    for path in sorted(HERE.glob("check_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
                slow = any(isinstance(one, ast.Name) and one.id == "slow" for one in node.decorator_list)
                yield pytest.param(node.name, marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def results(bundled, request, tmp_path_factory):
    """What became of the checks that this run of pytest asks for."""
    asked = [item.callspec.params["name"] for item in request.session.items if item.module is request.module]
    folder, python = comfyui.find()
    models = tmp_path_factory.mktemp("models")
    comfyui.save_variants(models)
    comfyui.save_smaller(models / SMALLER)
    kiwi_models = tmp_path_factory.mktemp("kiwi")
    kiwi_model.save_layouts(kiwi_models)
    compared = tmp_path_factory.mktemp("compared")
    comfyui.save_compared(compared)
    insight = tmp_path_factory.mktemp("insightedit")
    comfyui.save_insightedit(insight)
    forms = tmp_path_factory.mktemp("doors")
    doors.save(forms)
    (forms / "forms.json").write_text(json.dumps(doors.FORMS), encoding="utf-8")
    report = tmp_path_factory.mktemp("report") / "report.json"
    settings = {"COMFYUI_PATH": folder, "INSTRUCTX_TEST_MODELS": models, "INSTRUCTX_TEST_REPORT": report}
    settings |= {"INSTRUCTX_TEST_KIWI": kiwi_models, "INSTRUCTX_TEST_RECORDED": golden_runs.KIWI}
    settings |= {
        "INSTRUCTX_TEST_DOORS": forms,
        "INSTRUCTX_TEST_COMPARED": compared,
        "INSTRUCTX_TEST_INSIGHTEDIT": insight,
    }
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    environment.pop("PYTHONPATH", None)  # ComfyUI must find the pack's library by itself
    done = subprocess.run(
        [python, HERE / "run.py", *asked],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if not report.is_file():
        pytest.fail(f"ComfyUI's process ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*named_checks()])
def test_in_comfyui(results, name):
    if results[name].startswith("SKIPPED: "):
        pytest.skip(results[name].removeprefix("SKIPPED: "))
    assert not results[name], results[name]
