"""The node pack as files: what ComfyUI, its manager and its registry read, and what others must not trip over."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from support.places import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NODE_FILES = sorted((ROOT / "nodes").glob("*.py"))


def test_requirements_are_the_projects_dependencies():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    assert [line for line in lines if line] == PYPROJECT["project"]["dependencies"]


def test_registry_fields():
    comfy = PYPROJECT["tool"]["comfy"]
    assert comfy["PublisherId"] == ""  # the owner's to name: a manager installs whatever belongs to an id
    assert comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.15.1"


def test_nothing_is_published_by_itself():
    action = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    assert action[True] == "workflow_dispatch"  # YAML reads `on` as true
    steps = action["jobs"]["publish"]["steps"]
    assert "PublisherId" in steps[1]["run"]
    assert "publish-node-action" in steps[2]["uses"]


def test_comfyignore_keeps_what_nodes_need():
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8")
    needs = (
        "nodes",
        "web",
        "workflows",
        "subgraphs",
        "locales",
        "instructx_core/",
        "requirements.txt",
        "pyproject.toml",
    )
    for needed in needs:
        assert not re.search(rf"^/?{re.escape(needed)}", ignored, re.MULTILINE)


def test_wheel_holds_the_library_alone():
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["instructx_core"]


def test_entry_file_imports_nothing():
    code = "import runpy, sys; old = set(sys.modules); runpy.run_path('__init__.py'); print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"torch", "comfy_api", "nodes", "instructx_core"}


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_nodes_import_the_library_beside_them(path):
    """A pip-installed instructx_core of another version must never be mixed in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] not in ("instructx_core", "nodes")
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & {"instructx_core"}


@pytest.mark.parametrize("path", [ROOT / "__init__.py", *NODE_FILES], ids=lambda path: path.stem)
def test_the_server_gets_no_routes(path):
    names = {getattr(node, "attr", None) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    assert not names & {"routes", "add_routes", "add_get", "add_post", "add_static", "router"}


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_heavy_libraries_are_imported_when_a_node_runs(path):
    heavy = {"diffusers", "transformers", "peft", "accelerate", "av", "huggingface_hub"}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        assert not {name.split(".")[0] for name in names} & heavy
