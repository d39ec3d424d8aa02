"""What keeps pyproject.toml, README.md, .ci/run and the code in step; nothing here needs the network."""

import ast
import re
import subprocess
import sys
import tomllib

import instructx_core
from support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub", "pi_heif": "pi-heif",
                 "comfy_kitchen": "comfy-kitchen"}  # fmt: skip


def imported_packages() -> set[str]:
    """Top-level names that the library imports from elsewhere, wherever in a file."""
    names = set()
    for path in (ROOT / "instructx_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def test_version_is_the_same_in_both_places():
    assert PROJECT["version"] == instructx_core.__version__


def test_dependencies_are_what_the_library_imports():
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["dependencies"]}
    imported = {DISTRIBUTIONS.get(name, name) for name in imported_packages()}
    assert "comfy" not in imported
    extras = PROJECT["optional-dependencies"]
    optional = [one for name in ("scenes", "gguf", "heif", "metrics", "quant", "ray", "train") for one in extras[name]]
    extra = {re.match(r"[\w-]+", requirement)[0] for requirement in optional}
    assert imported <= declared | extra | {"torchvision"}  # RAFT's; one that does not match torch breaks it
    assert declared - imported <= {"accelerate"}  # also what diffusers loads weights with


def test_the_library_imports_itself_relatively():
    assert "instructx_core" not in imported_packages()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "numpy", "diffusers", "transformers", "peft", "accelerate", "av", "PIL"}
    code = "import sys, instructx_core, instructx_core.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not heavy & set(done.stdout.split())


def test_ci_finds_the_test_command_of_the_readme():
    pattern = re.search(r"grep -E '([^']+)' README.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))[1]
    commands = re.findall(pattern, (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 1
    assert ".venv/" in commands[0]


def headings(page):
    """Of a page, as links name them."""
    found = re.findall("^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", one).strip().lower() for one in found)
    return {re.sub(r"[^\w\- ]", "", one).replace(" ", "-") for one in plain}


def test_links_lead_somewhere():
    folders = ("*.md", "docs/*.md", "recipes/**/*.md", "instructx_core/**/*.md", "web/docs/**/*.md")
    pages = sorted({path for one in folders for path in ROOT.glob(one)})
    assert len(pages) > 50
    for page in pages:
        for link, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
            there = page.parent / link if link else page
            assert there.exists(), f"{page.name} links to {link}"
            assert not heading or heading in headings(there), f"{page.name}: {link}#{heading}"
