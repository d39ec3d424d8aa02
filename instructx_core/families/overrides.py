"""Base models from elsewhere: the DiT, VAE and MLLM that a checkpoint's queries, LoRA and connector are put on.

A checkpoint may be a whole model or what was trained alone. Either way each of the three can be given apart, in any
form that `find_form` knows; whether they fit is told from headers, before a weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bounded import is_dir
from ..config import ContextEntry, ModelConfig
from ..errors import CheckpointError
from ..weights.compare import shape_of, shapes_of
from ..weights.detect import Family, Form, find_form
from ..weights.dit import checked_dit, to_diffusers
from ..weights.library_load import check_config
from ..weights.mllm import checked_mllm, mllm_config, mllm_width
from ..weights.vae import checked_vae, vae_channels
from ..words import quoted_path

TEXT = "condition_embedder.text_embedder.linear_1.weight"
OPTIONS = {Family.DIT: "transformer", Family.VAE: "vae", Family.MLLM: "mllm"}


@dataclass(frozen=True)
class Base:
    """Weights that take the place of a checkpoint's own, each a file or a folder; None: the checkpoint's own."""

    transformer: Path | None = None
    vae: Path | None = None
    mllm: Path | None = None

    def given(self, family: Family) -> Path | None:
        """What takes the place of one part."""
        return getattr(self, OPTIONS[family])


OWN = Base()


def choose(given: Path | None, own: Path, family: Family, allow_pickle: bool = False) -> Form:
    """The weights to use of one part: those given, else the checkpoint's own, of which config and weights are there.

    Args:
        own: the folder of the checkpoint's own.
        allow_pickle: as `find_form`.

    Raises:
        CheckpointError: nothing given, and the checkpoint has none or an incomplete one; or something else there.
    """
    if given is not None:
        return find_form(given, family, allow_pickle)
    if not is_dir(own):
        raise need(own.parent, family)
    check_config(own)
    return find_form(own, family, allow_pickle)


def need(checkpoint: Path, family: Family) -> CheckpointError:
    """What to say where a checkpoint has no part of its own and none is given."""
    option = OPTIONS[family]
    return CheckpointError(
        f"{str(checkpoint)!r} has no {family.value} of its own; give the one that it was trained on "
        f"({option}=PATH, on the command line --{option} PATH)."
    )


def check_fit(config: ModelConfig, checkpoint: Path, dit: Form, vae: Form, mllm: Form) -> None:
    """Raise CheckpointError unless the three are whole and of the sizes that a checkpoint was trained with.

    Args:
        config: of the checkpoint.
        checkpoint: its path, to name.
    """
    checked_dit(dit)
    checked_vae(vae)
    checked_mllm(mllm, mllm_config(mllm, checkpoint if checkpoint.is_dir() else checkpoint.parent))
    check_sizes(config, checkpoint, dit, vae, mllm)


def check_sizes(config: ModelConfig, checkpoint: Path, dit: Form, vae: Form, mllm: Form) -> None:
    """As `check_fit`, of three that are known to be whole."""
    check_context(config, checkpoint, dit)
    width = mllm_width(mllm)
    if width != config.connector.input_dim:
        raise CheckpointError(
            f"{str(checkpoint)!r} takes hidden states of width {config.connector.input_dim}, the MLLM in "
            f"{str(mllm.path)!r} has {width}; give the MLLM that it was trained on."
        )
    made, taken = vae_channels(vae), dit_sizes(dit).channels
    if made != taken:
        raise CheckpointError(
            f"the VAE in {str(vae.path)!r} makes {made} channels, the DiT in {str(dit.path)!r} takes {taken}; "
            "give those of one model."
        )


def check_context(config: ModelConfig, checkpoint: Path, dit: Form) -> None:
    """Raise CheckpointError unless a checkpoint's context is as wide as the DiT takes it."""
    sizes = dit_sizes(dit)
    taken = sizes.width if config.connector.entry is ContextEntry.WIDTH else sizes.text_dim
    if config.connector.output_dim != taken:
        raise CheckpointError(
            f"{str(checkpoint)!r} makes a context of width {config.connector.output_dim}, the DiT in "
            f"{str(dit.path)!r} takes {taken}; give the DiT that it was trained on."
        )


@dataclass(frozen=True)
class DitSizes:
    """What must agree between a DiT and what is put on it."""

    width: int
    channels: int
    text_dim: int


def dit_sizes(form: Form) -> DitSizes:
    """The sizes of a DiT in any form, from its headers.

    Raises:
        CheckpointError: the weights have no text embedding.
    """
    shapes = shapes_of(to_diffusers(form, form.tensors))
    if TEXT not in shapes:
        raise CheckpointError(f"{quoted_path(form.path)} is no whole Wan DiT: {TEXT} is missing; get it again.")
    width, channels = shape_of(shapes, "patch_embedding.weight", 5, form.path)[:2]
    return DitSizes(width, channels, shape_of(shapes, TEXT, 2, form.path)[1])
