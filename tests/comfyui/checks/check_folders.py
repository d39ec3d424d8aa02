"""What the loaders' menus offer: models and adapter files of the pack's own folder, and ComfyUI's own folders."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import folder_paths
from kit import BUNDLED, MODELS, VARIANTS, difference, example, expect, loaded, run, sampled, wired


@contextmanager
def put(kind, name, source):
    """A copy of `source` under `name` in a folder of that kind."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        folder_paths.add_model_folder_path(kind, folder)
        try:
            yield target
        finally:
            folder_paths.folder_names_and_paths[kind][0].remove(folder)


def check_stock_folders_are_offered():
    from instructx_pack.nodes.folders import base_names, model_names

    with put("diffusers", "mine", MODELS / VARIANTS[0]):
        assert "diffusers/mine" in model_names()
        assert run("LoadModel", model_name="diffusers/mine", precision="float32")[3].config.name
    with put("text_encoders", "qwen", MODELS / VARIANTS[0] / "mllm") as folder:
        assert "text_encoders/qwen" in base_names()
        (mllm,) = run("LoadMLLM", base="text_encoders/qwen", adapter=VARIANTS[0], precision="float32")
        image, instruction, _ = example("recolor")
        seen = {"source": image, "instruction": instruction}
        expected = run("MLLMGuidance", mllm=loaded(VARIANTS[0])[2], **seen)[0]
        found = run("MLLMGuidance", mllm=mllm, **seen)[0]
        assert difference(found.positive.tokens, expected.positive.tokens) == 0
        config = folder / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "t5"}).replace("qwen2_5_vl", "t5"))
        assert "text_encoders/qwen" not in base_names()
    assert "diffusers/mine" not in model_names()
    expect("CheckpointError", "Put its folder", run, "LoadModel", model_name="diffusers/mine")


def check_only_what_reads_instructions_is_a_base():
    """Of the folders with a config.json in the pack's own folder: not a second DiT, nor a CLIP."""
    from instructx_pack.nodes.folders import base_names

    with put("instructx", "pipeline", MODELS / VARIANTS[0]) as folder:
        for kind, readers in {"wan": False, "clip": False, "qwen2_5_vl": True, "umt5": True}.items():
            for name in ("transformer_2", "reader"):
                (folder / name).mkdir(exist_ok=True)
                (folder / name / "config.json").write_text(json.dumps({"model_type": kind}))
            found = set(base_names()) & {"pipeline/transformer_2", "pipeline/reader"}
            assert found == ({"pipeline/transformer_2", "pipeline/reader"} if readers else set()), (kind, found)
        assert "pipeline" in base_names()


def check_an_adapter_file_is_enough():
    """`instructx.safetensors` alone, on a MODEL and an MLLM that come from elsewhere."""
    from instructx_pack.nodes.folders import BUNDLED as BUNDLED_FOLDER
    from instructx_pack.nodes.folders import model_names

    with put("instructx", "mine.safetensors", BUNDLED_FOLDER / "instructx.safetensors"):
        assert "mine.safetensors" in model_names()
        model, vae, mllm, _ = loaded(BUNDLED)
        patched, connector = run("LoadAdapter", model=model, adapter="mine.safetensors")
        image, instruction, _ = example("recolor")
        (reads,) = run("LoadMLLM", base=BUNDLED, adapter="mine.safetensors", precision="float32")
        (guidance,) = run("MLLMGuidance", mllm=reads, source=image, instruction=instruction)
        assert (
            guidance.positive.tokens
            == run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)[0].positive.tokens
        ).all()
        positive, negative = run("Connector", connector=connector, guidance=guidance)
        graph = run("Source", model=patched, positive=positive, negative=negative, source=image, vae=vae)
        whole = sampled(wired(BUNDLED, image, instruction, width=64, height=64), seed=1)
        assert difference(sampled((*graph, None), seed=1), whole) == 0
        expect(
            "CheckpointError",
            "has no DiT weights",
            run,
            "LoadAdapter",
            model=model,
            adapter="mine.safetensors",
            weights="the checkpoint's",
        )
    with put("instructx", "other.safetensors", MODELS / VARIANTS[0] / "vae" / "diffusion_pytorch_model.safetensors"):
        assert "other.safetensors" not in model_names()


def check_a_replaced_file_is_another_model():
    """ComfyUI runs a loader again, and a long edit starts anew, when the files behind a name have changed."""
    from instructx_pack.nodes.folders import stamp
    from kit import NODES

    with put("instructx", "mine", MODELS / VARIANTS[0]) as folder:
        fingerprint = NODES["InstructXLoadModel"].fingerprint_inputs
        before = fingerprint(model_name="mine", precision="float32")
        assert fingerprint(model_name="mine", precision="float32") == before
        connector = run("LoadModel", model_name="mine", precision="float32")[3]
        assert connector.files == stamp(folder)
        file = folder / "instructx.safetensors"
        file.write_bytes(file.read_bytes())
        assert fingerprint(model_name="mine", precision="float32") != before
        assert connector.files != stamp(folder)


def check_a_lora_beside_an_adapter_file_counts():
    """Of a folder all files count; beside a lone file only this one."""
    from instructx_pack.nodes.load_adapter import DIT_LORA
    from kit import NODES

    fingerprint = NODES["InstructXLoadAdapter"].fingerprint_inputs
    with put("instructx", "mine.safetensors", MODELS / VARIANTS[0] / "instructx.safetensors") as file:
        seen = [fingerprint(adapter="mine.safetensors")]
        lora = file.parent / DIT_LORA
        try:
            for content in (b"one", b"other"):
                lora.write_bytes(content)
                seen.append(fingerprint(adapter="mine.safetensors"))
        finally:
            lora.unlink()
        assert len(set(seen)) == 3 and fingerprint(adapter="mine.safetensors") == seen[0]


def check_a_damaged_lora_beside_an_adapter_file_is_named():
    from instructx_pack.nodes.folders import BUNDLED as BUNDLED_FOLDER
    from instructx_pack.nodes.load_adapter import DIT_LORA, LORA

    model, *_ = loaded(BUNDLED)
    given = {"model": model, "adapter": "mine.safetensors", "weights": LORA}
    with put("instructx", "mine.safetensors", BUNDLED_FOLDER / "instructx.safetensors") as file:
        lora = file.parent / DIT_LORA
        try:
            for content in (b"", b"<html>" * 10, (99).to_bytes(8, "little") + b"{}"):
                lora.write_bytes(content)
                expect("CheckpointError", f"{str(lora)!r} is", run, "LoadAdapter", **given)
        finally:
            lora.unlink()
