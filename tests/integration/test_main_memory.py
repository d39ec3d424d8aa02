"""Main memory: what is free under each kind of limit, what a model needs of it, and what is chosen or refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import CheckpointError, Editor, InputError, cli, families
from instructx_core.families.instructx.folder import BUNDLED, save_checkpoint
from instructx_core.main_memory import UNLIMITED, GrowingRoom, Room, address_space, main_memory
from instructx_core.memory import decide as deciding
from instructx_core.memory.choice import Memory
from instructx_core.memory.decide import decide, outline_model
from instructx_core.memory.formats import pick_dtype
from instructx_core.memory.needs import RUNTIME, main_memory_need
from instructx_core.memory.phases import Part, trained_job
from instructx_core.weights.files import read_safetensors
from instructx_core.weights.mapped import give_back
from support import tiny
from support.peak_memory import memory_in_use

CPU = torch.device("cpu")
MIB, GIB = 2**20, 2**30
linux = pytest.mark.skipif(sys.platform != "linux", reason="mapped pages are told from others on Linux alone")


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, stored in bfloat16."""
    components = tiny.components()
    for module in (components.guidance.mllm, components.guidance.queries, components.connector):
        module.to(torch.bfloat16)
    components.denoiser.to(torch.bfloat16)
    components.codec.vae.to(torch.bfloat16)
    folder = tmp_path_factory.mktemp("halved") / "model"
    save_checkpoint(components, folder)
    return folder


# --- what is free


def kernel_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


STAT_2 = "anon 1000\ninactive_file 300\nactive_file 200\n"
STAT_1 = "cache 9\ntotal_inactive_file 300\ntotal_active_file 200\n"


@linux
@pytest.mark.parametrize(
    ("cgroup", "files", "left"),
    [
        ("0::/job\n", {"job/memory.max": "5000", "job/memory.current": "2000", "job/memory.stat": STAT_2}, 3500),
        # a limit around it is lower
        (
            "0::/all/job\n",
            {
                "all/job/memory.max": "max",
                "all/job/memory.current": "2000",
                "all/memory.max": "4000",
                "all/memory.current": "3000",
                "all/memory.stat": STAT_2,
            },
            1500,
        ),
        (
            "4:cpu,memory:/job\n0::/\n",
            {
                "memory/job/memory.limit_in_bytes": "5000",
                "memory/job/memory.usage_in_bytes": "2000",
                "memory/job/memory.stat": STAT_1,
            },
            3500,
        ),
        # in a container, where the path is the host's
        (
            "4:memory:/docker/0123\n",
            {"memory/memory.limit_in_bytes": "5000", "memory/memory.usage_in_bytes": "5200"},
            0,
        ),
    ],
)
def test_limits_of_cgroups(cgroup: str, files: dict[str, str], left: int, tmp_path: Path):
    proc = kernel_files(tmp_path / "proc", {"self/cgroup": cgroup})
    room = main_memory(proc, kernel_files(tmp_path / "cgroup", files))
    assert room.bytes == left and "container or cgroup" in room.limit


@linux
@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("0::/\n", {"memory.max": "max", "memory.current": "2000"}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"}),
        ("0::/job\n", {}),
        ("", {}),
    ],
)
def test_no_limit_is_what_the_machine_has(cgroup: str, files: dict[str, str], tmp_path: Path):
    told = "MemTotal: 9999 kB\nMemFree: 10 kB\nMemAvailable:    4096 kB\n"
    proc = kernel_files(tmp_path / "proc", {"self/cgroup": cgroup, "meminfo": told})
    assert main_memory(proc, kernel_files(tmp_path / "cgroup", files)) == Room(
        4 * MIB, "free on this machine", "close other programs"
    )


def test_what_this_machine_has():
    assert 0 < main_memory().bytes < UNLIMITED


@linux
def test_ulimit(monkeypatch: pytest.MonkeyPatch):
    import resource

    taken = memory_in_use("VmSize")
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (taken + GIB, resource.RLIM_INFINITY))
    assert address_space().bytes == pytest.approx(GIB, rel=0.1)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert address_space() is None


# --- what is needed


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.9), (torch.float32, 0.0)], ids=str)
def test_weights_stay_mapped_in_the_format_they_are_stored_in(halved: Path, dtype: torch.dtype, share: float):
    """But for layers that diffusers keeps in float32."""
    outlined = outline_model(families.open(halved), dtype, CPU)
    held, sizes = outlined.held, outlined.sizes
    assert held.total == sizes.mllm.total + sizes.dit.total + sizes.vae.total + sizes.added
    assert held.mapped[Part.VAE] + held.mapped[Part.MLLM] >= share * (sizes.vae.total + sizes.mllm.total)
    merged = outline_model(families.open(halved), dtype, CPU, merged=True)
    assert merged.held.mapped[Part.DIT] == 0 and merged.held.total == held.total


def test_a_part_at_a_time_needs_less(halved: Path):
    outlined = outline_model(families.open(halved), torch.bfloat16, CPU)
    job = trained_job(outlined.model.config)
    phases = tuple(replace(phase, working=0) for phase in outlined.phases(job, tiled=False))
    full, model = (main_memory_need(outlined.held, phases, choice, CPU) for choice in (Memory.FULL, Memory.MODEL))
    assert full.total == outlined.held.total + RUNTIME
    assert model.total == outlined.held.own + max(outlined.held.mapped.values()) + RUNTIME
    gpu = torch.device("cuda")
    assert main_memory_need(outlined.held, phases, Memory.FULL, gpu).total == outlined.held.own + RUNTIME
    assert main_memory_need(outlined.held, phases, Memory.GROUP, gpu).total == outlined.held.total + RUNTIME


# --- what is chosen


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch):
    """Say how many bytes are free, and how many addresses."""

    def say(main: int, addresses: int | None = None) -> None:
        monkeypatch.setattr(deciding, "main_memory", lambda: Room(main, "free on this machine"))
        space = None if addresses is None else Room(addresses, "left under ulimit -v")
        monkeypatch.setattr(deciding, "address_space", lambda: space)

    return say


def need(folder: Path, dtype: torch.dtype, tiled: bool = False, working: bool = True) -> int:
    outlined = outline_model(families.open(folder), dtype, CPU)
    phases = outlined.phases(trained_job(outlined.model.config), tiled)
    phases = phases if working else tuple(replace(phase, working=0) for phase in phases)
    return main_memory_need(outlined.held, phases, Memory.FULL, CPU).total


def test_float32_where_it_fits_then_bfloat16_then_a_sentence(halved: Path, rooms):
    wide, narrow = need(halved, torch.float32), need(halved, torch.bfloat16)
    bare = need(halved, torch.bfloat16, working=False)
    assert bare < narrow < wide
    for free, dtype in ((wide, torch.float32), (wide - 1, torch.bfloat16), (narrow, torch.bfloat16)):
        rooms(free)
        decision = decide(families.open(halved), CPU)
        assert decision.dtype is dtype and not decision.plan.tiled
    rooms(bare)  # smaller edits than the model was trained for may fit
    assert decide(families.open(halved), CPU).dtype is torch.bfloat16 and decide(families.open(halved), CPU).plan.tiled
    rooms(bare - 1)
    with pytest.raises(InputError, match=r"in bfloat16 needs 1\.0 GiB \(weights .*libraries 1\.0\).*1\.0 GiB are free"):
        decide(families.open(halved), CPU)


def test_a_format_that_was_asked_for_is_not_changed(halved: Path, rooms):
    rooms(need(halved, torch.float32, working=False) - 1)
    with pytest.raises(InputError, match=r"in float32 needs .*; choose bfloat16 \(--dtype bfloat16\)\.$"):
        decide(families.open(halved), CPU, torch.float32)
    assert decide(families.open(halved), CPU, torch.bfloat16).dtype is torch.bfloat16
    assert decide(families.open(halved), CPU, torch.float16, Memory.MODEL).plan.memory is Memory.MODEL


def test_addresses_count_what_is_mapped(halved: Path, rooms):
    rooms(100 * GIB, addresses=RUNTIME)
    with pytest.raises(InputError, match="left under ulimit -v; raise that limit, or choose a smaller model"):
        decide(families.open(halved), CPU)


def test_a_small_model_is_not_measured(halved: Path, rooms, monkeypatch: pytest.MonkeyPatch):
    rooms(100 * GIB)
    monkeypatch.setattr(deciding, "outline", lambda *_: pytest.fail("an outline was made"))
    assert decide(families.open(halved), CPU).dtype is torch.float32


def test_a_gpu_s_model_waits_in_main_memory(halved: Path, rooms):
    gpu = torch.device("cuda")
    rooms(10 * GIB)
    assert decide(families.open(halved), gpu, free=10 * GIB).plan.memory is Memory.FULL
    rooms(RUNTIME + outline_model(families.open(halved), torch.bfloat16, gpu).held.own)  # all but `full` send more back
    assert decide(families.open(halved), gpu, free=0).plan.memory is Memory.FULL
    with pytest.raises(InputError, match="of main memory"):
        decide(families.open(halved), gpu, memory=Memory.GROUP, free=10 * GIB)
    rooms(RUNTIME - 1)
    with pytest.raises(InputError, match="of main memory"):
        decide(families.open(halved), gpu, free=10 * GIB)


# --- number formats


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float16"])
def test_an_editor_in_a_number_format(halved: Path, dtype: str | torch.dtype):
    editor = Editor.from_pretrained(halved, device="cpu", dtype=dtype)
    assert editor.denoiser.dtype is pick_dtype(dtype)
    assert editor.edit(tiny.clip(1), "make it red", steps=1).frames.isfinite().all()


def test_wrong_formats():
    assert pick_dtype("auto") is None and pick_dtype(None) is None
    for wrong in ("int8", torch.int64, "float64", "\x1b[31m"):
        with pytest.raises(InputError, match="choose one of auto, float32, bfloat16, float16"):
            pick_dtype(wrong)
    with pytest.raises(InputError, match="dtype is"):
        Editor.from_pretrained("nowhere", dtype="half")


def test_dtype_on_the_command_line(halved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rooms):
    from PIL import Image

    source = tmp_path / "in.png"
    Image.new("RGB", (48, 48), "red").save(source)
    words = ["edit", str(source), "make it blue", "-o", str(tmp_path / "out.png"), "--model", str(halved)]
    assert cli.main([*words, "--device", "cpu", "--dtype", "bfloat16", "--steps", "1"]) == 0
    rooms(RUNTIME)
    assert cli.main([*words, "--device", "cpu", "--dtype", "float32"]) == 2
    assert "in float32 needs" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        cli.main([*words, "--dtype", "int8"])


# --- mapped files


@linux
def test_pages_of_files_go_and_come_again(tmp_path: Path):
    from safetensors.torch import save_file

    numbers = torch.arange(8 * MIB, dtype=torch.float32)  # 32 MiB
    save_file({"a": numbers, "b": numbers + 1}, tmp_path / "weights.safetensors")
    state, _ = read_safetensors(tmp_path / "weights.safetensors")
    assert torch.equal(state["a"], numbers) and torch.equal(state["b"], numbers + 1)
    before = memory_in_use("VmRSS")
    give_back([*state.values(), numbers])
    assert before - memory_in_use("VmRSS") > 60 * MIB
    assert torch.equal(state["a"], numbers) and torch.equal(state["b"], numbers + 1)
    state["a"][4 * MIB :: 1024] = -1  # what was changed is no longer the file's
    give_back(state.values())
    assert (state["a"][4 * MIB :: 1024] == -1).all() and torch.equal(state["b"], numbers + 1)


@linux
def test_loading_maps_files(halved: Path):
    editor = Editor.from_pretrained(halved, device="cpu", dtype="bfloat16")
    maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    files = [[int(end, 16) for end in line[0].split("-")] for line in maps if line[-1].endswith(".safetensors")]

    def is_mapped(tensor: torch.Tensor) -> bool:
        return any(start <= tensor.data_ptr() < end for start, end in files)

    parts = (editor.guidance.mllm, editor.denoiser.transformer, editor.codec.vae)
    for part in parts:
        stored = [
            tensor
            for name, tensor in part.named_parameters()
            if tensor.dtype is torch.bfloat16 and "lora_" not in name  # which is copied into the MLLM
        ]
        assert sum(map(is_mapped, stored)) >= 0.9 * len(stored), type(part)


def test_editing_gives_back_what_does_not_work(halved: Path, monkeypatch: pytest.MonkeyPatch):
    from instructx_core.weights import mapped

    given: list[set[int]] = []
    monkeypatch.setattr(mapped, "give_back", lambda tensors: given.append({tensor.data_ptr() for tensor in tensors}))
    editor = Editor.from_pretrained(halved, device="cpu", dtype="bfloat16", memory="model")
    plain = Editor.from_pretrained(halved, device="cpu", dtype="bfloat16", memory="full")
    frames = editor.edit(tiny.clip(1), "make it red", steps=3).frames
    assert torch.equal(frames, plain.edit(tiny.clip(1), "make it red", steps=3).frames)
    assert len(given) == 8  # two parts each when MLLM, VAE, DiT and VAE begin, once for all steps


def test_the_bundled_model_needs_no_plan():
    assert decide(families.open(BUNDLED), CPU).dtype is torch.float32
    with pytest.raises(CheckpointError, match="there is no model folder"):
        decide(families.open(BUNDLED.parent / "nowhere"), CPU)


def test_a_clip_that_turns_out_longer_is_checked_before_each_growth() -> None:
    asked: list[int] = []
    room = GrowingRoom(4, asked.append)
    grew = [room.reach(count) for count in range(1, 11)]
    assert asked == [4, 6, 9, 13] and room.frames == 13
    assert [count for count, did in enumerate(grew, 1) if did] == [5, 7, 10]


def test_a_clip_that_outgrows_memory_is_refused() -> None:
    def check(frames: int) -> None:
        if frames > 6:
            raise InputError("too long")

    room = GrowingRoom(4, check)
    assert room.reach(5)
    with pytest.raises(InputError, match="too long"):
        room.reach(7)
