"""A node pack for the tests of loops, in ComfyUI's first form: copied into a server's custom_nodes."""

import asyncio
import json
import time
from pathlib import Path

import folder_paths


def output(name):
    return Path(folder_paths.get_output_directory()) / name


def note(name, **what):
    """Write a line to output/NAME.jsonl."""
    with output(f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\n")


class Filter:
    """A node of one image, by itself or as a list."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}


class Loader:
    """Something that is loaded once, outside."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("COUNTED",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"shift": ("FLOAT", {"default": 0.0})}}

    def run(self, shift):
        note("loaded", shift=shift)
        return (shift,)


class Use:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "loaded": ("COUNTED",)}}

    def run(self, image, loaded):
        return ((image + loaded).clamp(0, 1),)


class Fail:
    """Fails in one window as long as output/fail is there."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "index": ("INT", {}), "at": ("INT", {})}}

    def run(self, image, index, at):
        if index == at and output("fail").exists():
            raise ValueError("no luck")
        return (image,)


class Slow:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "seconds": ("FLOAT", {})}}

    def run(self, image, seconds):
        import comfy.utils

        bar = comfy.utils.ProgressBar(20)
        for _ in range(20):
            time.sleep(seconds / 20)
            bar.update(1)
        return (image,)


class Async(Filter):
    async def run(self, image):
        await asyncio.sleep(0.01)
        return (1 - image,)


class Expand(Filter):
    def run(self, image):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        inner = graph.node("ImageInvert", image=image)
        return {"result": (inner.out(0),), "expand": graph.finalize()}


class Split(Filter):
    OUTPUT_IS_LIST = (True,)

    def run(self, image):
        return ([frame[None] for frame in image],)


class Join(Filter):
    INPUT_IS_LIST = True

    def run(self, image):
        import torch

        return (torch.cat(image),)


class Restless(Filter):
    """Says that it gives something else every time."""

    @classmethod
    def IS_CHANGED(cls, **_inputs):
        return float("nan")

    def run(self, image):
        note("restless")
        return (image,)


class FromFile:
    """An image's brightness by a number in a file, which its check for changes reads."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("COUNTED",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {})}}

    @classmethod
    def _read(cls, name):
        return float(output(name).read_text())

    @classmethod
    def IS_CHANGED(cls, name):
        return cls._read(name)

    def run(self, name):
        return (self._read(name),)


class Watch:
    """An output inside of a loop."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        sockets = {"frames": ("IMAGE",), "held": ("MASK",), "tail": ("IMAGE",)}
        numbers = {name: ("INT", {"forceInput": True}) for name in ("index", "count", "seed", "start")}
        return {"required": sockets | numbers, "hidden": {"extra": "EXTRA_PNGINFO", "id": "UNIQUE_ID"}}

    def run(self, frames, held, tail, index, count, seed, start, extra, id):
        means = [round(float(frame.mean()) * 255, 1) for frame in frames]
        note(
            "watched",
            frames=means,
            held=held.amax((1, 2)).tolist(),
            tail=[round(float(frame.mean()) * 255, 1) for frame in tail],
            index=index,
            count=count,
            seed=seed,
            start=start,
            extra=extra,
            id=id,
        )
        return {"ui": {"text": [str(index)]}}


class Lazy:
    """Asks for the first of two images only."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("IMAGE", {"lazy": True}) for name in ("image", "other")}}

    def check_lazy_status(self, image, other):
        return ["image"] if image is None else []

    def run(self, image, other):
        assert other is None, "nobody asked for it"
        return (image,)


class Clips(Filter):
    """A batch of one clip, as video VAEs decode."""

    def run(self, image):
        return (1 - image[None],)


class Uneven(Filter):
    """A list of images that have not one size."""

    OUTPUT_IS_LIST = (True,)

    def run(self, image):
        return ([image[:1], image[1:, 2:]],)


class VAE:
    """One of ComfyUI's own with random weights, for videos or for images."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"video": ("BOOLEAN", {})}}

    def run(self, video):
        import comfy.sd
        import torch
        from comfy.ldm.wan.vae import WanVAE
        from comfy.taesd.taesd import TAESD

        model = WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True]) if video else TAESD()
        generator = torch.Generator().manual_seed(0)
        state = {
            name: torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
            if value.ndim > 1 and "gamma" not in name
            else torch.full(value.shape, float("gamma" in name or "scale" in name))
            for name, value in model.state_dict().items()
        }
        return (comfy.sd.VAE(sd=state),)


NODE_CLASS_MAPPINGS = {
    "Loop" + kind.__name__: kind
    for kind in (
        Loader,
        Use,
        Fail,
        Slow,
        Async,
        Expand,
        Split,
        Join,
        Restless,
        FromFile,
        Watch,
        Lazy,
        Clips,
        Uneven,
        VAE,
    )
}
