"""Network-based metrics of an edit: LPIPS, CLIPScore of the edited region, DINO similarity of the rest.

Each network is loaded from a local path; nothing is downloaded. Frames are [T, H, W, 3], uint8 or float in [0, 1], and
are taken one by one; a region is bool [T, H, W] (`preservation.find_region`).

| metric | network | usual weights |
|---|---|---|
| LPIPS | a torchvision backbone under torchmetrics' linear layers | `squeezenet1_1-b8a52dc0.pth` of torchvision |
| CLIPScore | any CLIP of transformers | `openai/clip-vit-large-patch14` |
| SRC (DINO) | any DINOv2, DINOv3 or ViT of transformers | `facebook/dinov2-base` |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounded import is_dir
from ..compat import lpips_network
from ..errors import CheckpointError, InputError
from ..guidance.vision import CLIP_MEAN, CLIP_STD
from ..weights.files import read_tensors
from ..weights.library_load import check_config, load_or_explain, quietly
from ..weights.mllm import load_tokenizer
from ..weights.pickles import is_pickle, read_pickle
from ..words import one_line, quoted_path
from .metrics import as_floats

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DINO_PATCHES = 32  # along a side: 448 pixels for patches of 14
CLEAN_PATCH = 0.999  # share of a patch's pixels that must be outside the region for the patch to count


class Lpips:
    """LPIPS (Zhang et al. 2018) outside a region: inside it, the source's pixels replace the edit's.

    Args:
        weights: of SqueezeNet 1.1, the backbone in InsightEdit's evaluation, as published by torchvision (.pth, read
            for tensors only) or as safetensors with the same names.

    Raises:
        InputError: torchmetrics or torchvision is not installed.
        CheckpointError: weights of another network.
    """

    def __init__(self, weights: Path) -> None:
        try:
            self.network = lpips_network()
        except ImportError as error:
            raise InputError(
                f"LPIPS needs torchmetrics and a torchvision that matches torch ({one_line(error, 150)}); run "
                "`pip install torchmetrics torchvision`."
            ) from error
        _fill_backbone(self.network, weights)

    @torch.no_grad()
    def __call__(self, source: Tensor, edited: Tensor, region: Tensor) -> float:
        """The mean over frames, >= 0; 0 for equal pictures."""
        total = 0.0
        for *frames, inside in zip(source, edited, region, strict=True):
            before, after = (as_floats(frame).permute(2, 0, 1)[None] for frame in frames)
            total += self.network(before, torch.where(inside, before, after), normalize=True).item()
        return total / len(source)


class ClipScore:
    """CLIPScore (Hessel et al. 2021): 100 times the cosine similarity of a picture and a text, at least 0.

    Args:
        folder: a CLIP in transformers' format, with its tokenizer.

    Raises:
        CheckpointError: missing, damaged, or not a CLIP.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel

        self.model = _load(folder, CLIPModel, "a CLIP (usually openai/clip-vit-large-patch14)")
        self.tokenizer = load_tokenizer(folder)
        self.side = self.model.config.vision_config.image_size

    @torch.no_grad()
    def __call__(self, edited: Tensor, region: Tensor, word: str) -> float:
        """Score the region's bounding box; the mean over all frames in which the region is not empty.

        Raises:
            InputError: the region is empty in every frame.
        """
        boxes = [cut_box(frame, mask) for frame, mask in zip(edited, region, strict=True) if mask.any()]
        if not boxes:
            raise InputError("CLIPScore: the region is empty; give a mask of what was edited.")
        pixels = torch.cat([_resized(box[None], (self.side, self.side), CLIP_MEAN, CLIP_STD) for box in boxes])
        limit = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(word, return_tensors="pt", truncation=True, max_length=limit)
        output = self.model(
            pixel_values=pixels, input_ids=words["input_ids"], attention_mask=words["attention_mask"]
        )  # the embeddings are normalised
        return float((100 * output.image_embeds @ output.text_embeds.T).clamp(min=0).mean())


class DinoSimilarity:
    """Source-region consistency: cosine similarity of DINO patch features of source and edit, outside the region.

    As in CoVEBench's SRC, this measures whether the content to preserve is still the same; a change of brightness
    hardly matters.

    Args:
        folder: a DINOv2, DINOv3 or ViT in transformers' format.

    Raises:
        CheckpointError: missing, damaged, or without patch features.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        self.model = _load(folder, AutoModel, "a DINO (usually facebook/dinov2-base)")
        patch = getattr(self.model.config, "patch_size", None)
        if not isinstance(patch, int):
            raise CheckpointError(
                f"{quoted_path(folder)} does not have patches of a single size; give a DINOv2, DINOv3 or ViT."
            )
        sizes_vary = self.model.config.model_type != "vit"  # a plain ViT takes only its training size
        self.side = patch * DINO_PATCHES if sizes_vary else self.model.config.image_size
        self.patch = patch

    @torch.no_grad()
    def __call__(self, source: Tensor, edited: Tensor, region: Tensor) -> float | None:
        """The mean over patches and frames, in [-1, 1]; None if every patch touches the region."""
        count = self.side // self.patch
        touched = F.interpolate(region[:, None].float(), (self.side, self.side), mode="area")
        clean = F.avg_pool2d(1 - touched, self.patch)[:, 0].flatten(1) > CLEAN_PATCH  # [T, patches]
        if not clean.any():
            return None
        features = [self._patches(frames, count**2) for frames in (source, edited)]
        return float(F.cosine_similarity(*features, dim=-1)[clean].mean())

    def _patches(self, frames: Tensor, count: int) -> Tensor:
        """Patch features [T, count, width], without the class and register tokens, which come first."""
        side = (self.side, self.side)
        pixels = torch.cat([_resized(frame[None], side, IMAGENET_MEAN, IMAGENET_STD) for frame in frames])
        return torch.cat([self.model(pixel_values=one[None]).last_hidden_state[:, -count:] for one in pixels])


def cut_box(frame: Tensor, mask: Tensor) -> Tensor:
    """Crop a frame [H, W, 3] to the bounding box of a non-empty mask [H, W]."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resized(frames: Tensor, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """[T, H, W, 3] -> normalised [T, 3, *size], stretched to that aspect ratio."""
    pixels = F.interpolate(as_floats(frames).permute(0, 3, 1, 2), size, mode="bicubic", antialias=True).clamp(0, 1)
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def _load(folder: Path, kind: Any, what: str) -> PreTrainedModel:
    if not is_dir(folder):
        raise CheckpointError(f"{quoted_path(folder)} is not a folder; give that of {what}, as nothing is fetched.")
    check_config(folder)

    def load() -> tuple[PreTrainedModel, dict[str, Any]]:
        return kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )

    with quietly():
        model, report = load_or_explain(folder, load)
    # a ViT trained to classify has no pooler, and only its hidden states are used
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        raise CheckpointError(f"{quoted_path(folder)} lacks {missing[0]!r} of {what}; download it again.")
    return model.eval()


def _fill_backbone(network: nn.Module, weights: Path) -> None:
    """Copy torchvision's `features.N.*` into the slices of LPIPS's backbone."""
    given = read_pickle(weights) if is_pickle(weights) else read_tensors(weights)
    for name, parameter in network.net.named_parameters():
        inner = "features." + re.sub(r"^slices\.\d+\.", "", name)
        if inner not in given or given[inner].shape != parameter.shape:
            raise CheckpointError(
                f"{quoted_path(weights)} lacks {inner!r} of SqueezeNet 1.1; give torchvision's weights."
            )
        parameter.data.copy_(given[inner])
