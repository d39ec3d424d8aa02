"""The environment that the tests run in, whatever the caller's: conftest.py calls `settle` before anything heavy loads.

Somebody's shell may say that the hub is offline, where caches are, which proxy to ask, that warnings are errors. None
of it is the tests' business: they need no network but a server of their own, and bring every file that they read.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import MutableMapping

# What libraries read: where and whether to download, what to print, and in which process of how many they run.
LIBRARIES = ("HF_", "HUGGING", "TRANSFORMERS_", "DIFFUSERS_", "ACCELERATE_", "FSDP_", "TORCH_HOME", "PYTORCH_")
LAUNCHERS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"}
# What changes how text is laid out or printed.
TERMINAL = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PYTHONIOENCODING"}
OTHERS = {"PYTHONWARNINGS", "XDG_CACHE_HOME", "PYTHONUTF8", "PYTHONCOERCECLOCALE"}


def is_cleared(name: str) -> bool:
    """Whether the tests take a variable out of the environment."""
    return (
        name.startswith(LIBRARIES)
        or name in LAUNCHERS | TERMINAL | OTHERS
        or (name.lower().endswith("_proxy") and name.lower() != "no_proxy")
    )


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take out what could change a test, for this process and those that it starts; caches get an empty folder."""
    for name in [name for name in environment if is_cleared(name)]:
        del environment[name]
    # Workers of pytest-xdist inherit this one and make another: neither deletes the other's.
    caches = tempfile.mkdtemp(prefix="instructx-tests-")
    atexit.register(shutil.rmtree, caches, ignore_errors=True)
    environment["HF_HOME"] = caches
    environment["TORCH_HOME"] = caches
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    environment["NO_PROXY"] = environment["no_proxy"] = "localhost,127.0.0.1"


def calm_warnings() -> None:
    """Warnings as Python has them by default, where the caller's PYTHONWARNINGS made errors of them."""
    if sys.warnoptions:
        sys.warnoptions.clear()
        warnings.resetwarnings()
