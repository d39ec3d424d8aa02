"""The folder of finished windows: what is of somebody else stays there, and nothing in it is trusted."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import save_file

from instructx_core import Editor, InputError
from instructx_core.long_video import Head
from instructx_core.long_video.joining import EditedWindow
from instructx_core.long_video.store import CHECKSUM, MANIFEST, WindowSize, WindowStore, _checksum, _encode
from instructx_core.weights.files import read_safetensors
from support.inverter import COUNT, OPTIONS, edit, interrupted, names
from support.video_files import clip, make_video

SIZE = WindowSize((5, 32, 48), range(2, 6), 5000)


@pytest.fixture
def editor(inverting: Editor) -> Editor:
    return inverting


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", clip(COUNT))


def folder_of(target: Path) -> Path:
    folder = WindowStore(target).folder
    folder.mkdir()
    return folder


# --- what is of somebody else


def test_a_file_of_somebody_else_stays(editor: Editor, source: Path, tmp_path: Path, caplog):
    target = tmp_path / "out.mp4"
    folder = folder_of(target)
    (folder / "notes.txt").write_text("mine")
    (folder / "deep").mkdir()
    (folder / "deep" / "0.safetensors").write_text("mine")
    edit(editor, source, target)
    assert target.is_file() and names(folder) == ["deep", "notes.txt"]
    assert (folder / "deep" / "0.safetensors").read_text() == "mine"
    assert "is not deleted, as it holds other files (deep, notes.txt)" in caplog.text


def test_it_stays_when_the_edit_is_begun_anew(editor: Editor, source: Path, tmp_path: Path):
    target = tmp_path / "out.mp4"
    store = interrupted(editor, source, target)
    (store.folder / "notes.txt").write_text("mine")
    edit(editor, source, target, seed=1)
    assert names(store.folder) == ["notes.txt"]


def test_windows_of_another_edit_that_cannot_be_deleted_are_not_used(
    editor: Editor, source: Path, tmp_path: Path, monkeypatch
):
    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "in use")
        delete(path, missing_ok)

    target, delete = tmp_path / "out.mp4", Path.unlink
    store = interrupted(editor, source, target)
    with monkeypatch.context() as held:
        held.setattr(Path, "unlink", unlink)
        with pytest.raises(InputError, match="is a window of another edit and cannot be deleted"):
            edit(editor, source, target, seed=1)
    edit(editor, source, target, seed=1)
    assert target.is_file() and not store.folder.exists()


@pytest.mark.parametrize("name", ["00000.safetensors", "00007.safetensors", "out.mp4", MANIFEST])
def test_a_name_that_is_taken_is_refused(editor: Editor, source: Path, tmp_path: Path, name: str):
    target = tmp_path / "out.mp4"
    folder = folder_of(target)
    (folder / name).write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"\.out\.mp4\.windows: .* this one is not an edit's .*; move it away") as told:
        edit(editor, source, target)
    assert "\n" not in str(told.value)
    assert (folder / name).read_text() == '{"mine": 1}' and names(folder) == [name]


@pytest.mark.parametrize("kind", ["fifo", "link", "large", "deep", "list", "folder", "not text"])
def test_a_manifest_that_is_none_is_refused_at_once(editor: Editor, source: Path, tmp_path: Path, kind: str):
    target = tmp_path / "out.mp4"
    file = folder_of(target) / MANIFEST
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":  # as to /dev/zero, which no test run by root may come near
        file.symlink_to(source)
    elif kind == "folder":
        file.mkdir()
    else:
        contents = {"large": b" " * (1 << 21), "deep": b"[" * 100_000, "list": b"[1]", "not text": b"\xff\xfe"}
        file.write_bytes(contents[kind])
    with pytest.raises(InputError, match=r"\.out\.mp4\.windows: .* is not an edit's"):
        edit(editor, source, target)
    assert file.is_symlink() or file.exists()
    assert names(tmp_path) == [".out.mp4.windows", "in.mp4"]


def test_a_link_to_a_folder_is_followed_and_its_files_stay(editor: Editor, source: Path, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.png").write_text("mine")
    link = WindowStore(tmp_path / "out.mp4").folder
    link.symlink_to(mine)
    edit(editor, source, tmp_path / "out.mp4")
    assert names(mine) == ["photo.png"] and link.is_symlink()


def test_without_resume_nothing_there_is_touched(editor: Editor, source: Path, tmp_path: Path):
    target = tmp_path / "out.mp4"
    folder = folder_of(target)
    (folder / "00000.safetensors").write_text("mine")
    edit(editor, source, target, resume=False)
    assert (folder / "00000.safetensors").read_text() == "mine"


# --- windows that are not what they should be


def write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    """With the right checksum, which anybody can compute."""
    save_file(tensors, file, {CHECKSUM: _checksum(tensors)})


def other_video(codec: str, pix_fmt: str, height: int, width: int, count: int) -> torch.Tensor:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        for _ in range(count):
            output.mux(stream.encode(av.VideoFrame(width, height, pix_fmt)))
        output.mux(stream.encode(None))
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


FRAMES, LATENTS = _encode(torch.from_numpy(clip(5))), torch.zeros(1, 4, 5, 2, 3)
WRONG = {
    "no frames": {"latents": LATENTS},
    "no latents": {"frames": FRAMES},
    "nothing": {},
    "more": {"frames": FRAMES, "latents": LATENTS, "x": LATENTS + 1},
    "frames are floats": {"frames": FRAMES.float(), "latents": LATENTS},
    "frames are a grid": {"frames": FRAMES[None].contiguous(), "latents": LATENTS},
    "frames are empty": {"frames": FRAMES[:0].clone(), "latents": LATENTS},
    "frames are noise": {"frames": torch.arange(2000).to(torch.uint8), "latents": LATENTS},
    "frames too few": {"frames": _encode(torch.from_numpy(clip(4))), "latents": LATENTS},
    "frames too many": {"frames": _encode(torch.from_numpy(clip(6))), "latents": LATENTS},
    "frames of another size": {"frames": _encode(torch.from_numpy(clip(5, 33, 48))), "latents": LATENTS},
    "another codec": {"frames": other_video("libx264", "yuv420p", 32, 48, 5), "latents": LATENTS},
    "latents of one dimension": {"frames": FRAMES, "latents": LATENTS.flatten()},
    "latents of half": {"frames": FRAMES, "latents": LATENTS.half()},
    "latents of two": {"frames": FRAMES, "latents": torch.zeros(2, 4, 5, 2, 3)},
    "latents without channels": {"frames": FRAMES, "latents": torch.zeros(1, 0, 5, 2, 3)},
    "latents too short": {"frames": FRAMES, "latents": torch.zeros(1, 4, 1, 2, 3)},
    "latents too large": {"frames": FRAMES, "latents": torch.zeros(1, 4, 5, 20, 30)},
    "latents that are NaN": {"frames": FRAMES, "latents": LATENTS.log() * 0},
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_window_of_another_shape_is_edited_again(kind: str, tmp_path: Path, caplog):
    store = WindowStore(tmp_path / "out.mp4")
    store.open({})
    write(store.folder / "00000.safetensors", WRONG[kind])
    assert store.load(0, SIZE) is None
    assert "is damaged" in caplog.text and "\n" not in caplog.messages[0]


def test_a_whole_window_is_loaded(tmp_path: Path):
    store = WindowStore(tmp_path / "out.mp4")
    store.open({})
    frames = torch.from_numpy(clip(5))
    store.save(0, EditedWindow(frames, LATENTS))
    found = store.load(0, SIZE)
    assert torch.equal(found.frames, frames) and torch.equal(found.latents, LATENTS)


def test_noise_of_one_frame_is_within_the_bounds(tmp_path: Path):
    store = WindowStore(tmp_path / "out.mp4")
    store.open({})
    frames = torch.randint(0, 256, (1, 1, 1, 3), dtype=torch.uint8)
    store.save(0, EditedWindow(frames, torch.zeros(1, 1, 1, 1, 1)))
    assert store.load(0, WindowSize((1, 1, 1), range(1, 2), 3)) is not None


def test_a_bomb_is_not_decoded(tmp_path: Path):
    """12 black frames of 8192 x 8192 in FFV1 are small; their size stands at their head."""
    resource = pytest.importorskip("resource")
    store = WindowStore(tmp_path / "out.mp4")
    store.open({})
    write(store.folder / "00000.safetensors", {"frames": bomb(8192), "latents": LATENTS})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert store.load(0, SIZE) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; a frame alone has 200 MB


def bomb(side: int) -> torch.Tensor:
    """A small FFV1 video whose header says this of its sides."""
    # Matroska's PixelWidth (B0) and PixelHeight (BA), of two bytes each
    data = bytes(other_video("ffv1", "bgr0", 256, 512, 1).numpy())
    assert b"\xb0\x82\x02\x00" in data and b"\xba\x82\x01\x00" in data
    data = data.replace(b"\xb0\x82\x02\x00", b"\xb0\x82" + side.to_bytes(2))
    return torch.frombuffer(
        bytearray(data.replace(b"\xba\x82\x01\x00", b"\xba\x82" + side.to_bytes(2))), dtype=torch.uint8
    )


DEEP = b"[" * 5000
NO_WINDOWS = {
    "deep header": len(DEEP).to_bytes(8, "little") + DEEP,
    "long header": (90_000_000).to_bytes(8, "little") + b"{",
    "empty": b"",
    "text": b"hello",
}


@pytest.mark.parametrize("content", NO_WINDOWS.values(), ids=NO_WINDOWS)
def test_a_file_that_is_no_window_is_edited_again(editor: Editor, source: Path, tmp_path: Path, content: bytes):
    target = tmp_path / "out.mp4"
    store = interrupted(editor, source, target)
    (store.folder / "00001.safetensors").write_bytes(content)
    assert edit(editor, source, target).reused == 1
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_a_window_that_is_no_regular_file_is_refused_and_stays(editor: Editor, source: Path, tmp_path: Path, kind: str):
    target, mine = tmp_path / "out.mp4", tmp_path / "mine.safetensors"
    mine.write_text("mine")
    store = interrupted(editor, source, target)
    for number in (1, 2):  # one that is there, one that is still to be edited
        file = store.folder / f"0000{number}.safetensors"
        file.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(file)
        elif kind == "link":
            file.symlink_to(mine)
        else:
            file.mkdir()
        with pytest.raises(InputError, match=rf"its 0000{number}\.safetensors is not a regular file"):
            edit(editor, source, target)
        shutil.rmtree(file) if kind == "folder" else file.unlink()
    assert mine.read_text() == "mine"
    assert edit(editor, source, target).reused == 1


def test_a_link_that_appears_later_is_not_followed(tmp_path: Path):
    store, mine = WindowStore(tmp_path / "out.mp4"), tmp_path / "mine.safetensors"
    mine.write_text("mine")
    store.open({})
    (store.folder / "00000.safetensors").symlink_to(mine)
    with pytest.raises(InputError, match="window 1 cannot be saved there"):
        store.save(0, EditedWindow(torch.from_numpy(clip(1)), LATENTS))
    assert mine.read_text() == "mine"


def test_latents_of_another_model_are_refused(tiny_editor: Editor, source: Path, tmp_path: Path):
    options = replace(OPTIONS, head=Head.LATENT)
    store = interrupted(tiny_editor, source, tmp_path / "out.mp4", windows=1)
    tensors, _ = read_safetensors(store.folder / "00000.safetensors")
    shutil.rmtree(store.folder)
    with pytest.raises(Exception, match="stopped"):
        edit(tiny_editor, source, tmp_path / "out.mp4", options=options, callback=lambda at: at.window < 2)
    latents = tensors["latents"][:, :1].clone()
    write(store.folder / "00000.safetensors", {"frames": tensors["frames"], "latents": latents})
    with pytest.raises(InputError, match="latents of a kept window are from another model"):
        edit(tiny_editor, source, tmp_path / "out.mp4", options=options)
