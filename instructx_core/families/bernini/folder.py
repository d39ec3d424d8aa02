"""Bernini-R's published folder: the diffusers parts of a plain Wan, and a config that identifies them.

- It has no new tensors; it is recognised by `model_type` in its `config.json`.
- Its config sets a shift of 3, its authors' command line 5; the values here are those of the command line.
- The 14B is a pair of DiTs, the second with weaker guidance; the 1.3B sets their boundary to 0.
"""

from __future__ import annotations

from pathlib import Path

from ...bounded import is_dir, is_file
from ...config import (
    ConnectorConfig,
    ConnectorKind,
    DenoiserConfig,
    GuidanceConfig,
    GuidanceKind,
    GuidanceMode,
    ModelConfig,
    ReferenceInjection,
    SamplingConfig,
    Solver,
    SourceInjection,
)
from ...errors import CheckpointError
from ...weights.detect import find_form
from ...weights.files import naming, read_json
from ...weights.parts import Part
from ...weights.readers import reader_width
from ...words import quoted_path
from ..boundary import INDEX, USUAL, read_boundary
from ..match import Match

TYPE, SWITCH = "bernini_renderer", "switch_dit_boundary"
TRANSFORMER, SECOND, VAE, TEXT = "transformer", "transformer_2", "vae", "text_encoder"


def recognise(path: Path) -> Match | None:
    """Recognise a folder of Bernini-R's parts, whatever it is called; None for others.

    Raises:
        CheckpointError: no text encoder in it, a damaged file, or an invalid boundary between two DiTs.
    """
    said = path / "config.json"
    if not is_dir(path) or not is_file(said) or read_json(said).get("model_type") != TYPE:
        return None
    boundary = _boundary(path, said)
    text = find_form(path / TEXT, Part.MLLM)
    if not text.is_text:
        raise CheckpointError(f"{quoted_path(text.path)} is a {text.title}, but Bernini-R needs a umT5; get it again.")
    with naming(path):
        config = _config(reader_width(text), boundary).checked()
    folders = {Part.MLLM: path / TEXT, Part.DIT: path / TRANSFORMER, Part.VAE: path / VAE}
    folders |= {Part.DIT_2: path / SECOND} if boundary else {}
    return Match("Bernini-R", path, config, adapter={}, stored={}, folders=folders)


def _boundary(path: Path, config: Path) -> float:
    """The noise level above which the first of two DiTs denoises; 0: there is only one."""
    said = read_json(config)
    if said.get("skip_transformer_2") is True:
        return 0.0
    if SWITCH in said:
        return read_boundary(config, SWITCH) or 0.0
    return read_boundary(path / INDEX) or (USUAL if is_dir(path / SECOND) else 0.0)


def _config(width: int, boundary: float) -> ModelConfig:
    return ModelConfig(
        name="Bernini-R",
        default_size=(480, 848),
        default_frames=81,
        guidance=GuidanceConfig(kind=GuidanceKind.TEXT, dialect="bernini", lora_rank=0, lora_alpha=0),
        connector=ConnectorConfig(kind=ConnectorKind.NONE, input_dim=width, hidden_dim=width, output_dim=width),
        denoiser=DenoiserConfig(source=SourceInjection.STREAM, reference=ReferenceInjection.STREAM, boundary=boundary),
        sampling=SamplingConfig(
            steps=40,
            shift=5.0,
            guidance_scale=4.0,
            solver=Solver.UNIPC,
            guidance_mode=GuidanceMode.TASK,
            source_scale=1.25,
            reference_scale=4.5,
            second_share=0.8 if boundary else 1.0,
        ),
    )
