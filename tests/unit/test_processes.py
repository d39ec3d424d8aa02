"""What the processes of a training run agree on."""

from __future__ import annotations

import os
import subprocess
import sys

from support.places import ROOT

SPY = """
import torch
import torch.distributed

start = torch.distributed.init_process_group
torch.distributed.init_process_group = lambda *args, **given: (print(given["timeout"].days), start(*args, **given))

from instructx_core.training.processes import process_state

process_state().wait_for_everyone()
torch.distributed.destroy_process_group()
"""


def test_processes_wait_a_day_for_one_that_works_alone() -> None:
    """A launched run of one process, which makes a group like any other."""
    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    environment = {**os.environ, **launched, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["1"]
