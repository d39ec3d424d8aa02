"""An opened model on disk: what it is and where its parts are. Each header is read once, and no weights are loaded."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConnectorKind, ContextEntry, ModelConfig
from ..errors import CheckpointError
from ..weights.compare import first_difference, shapes_of
from ..weights.detect import Form, find_form
from ..weights.dit import dit_config, to_diffusers
from ..weights.files import check_types
from ..weights.library_load import check_config
from ..weights.networks import checked_autoencoder, checked_network, latent_channels, network_sizes
from ..weights.parts import Part, bare_mllm
from ..weights.readers import checked_reader, reader_config, reader_width
from ..words import escaped
from .boundary import INDEX, USUAL, read_boundary
from .components import guidance_class
from .match import Match
from .networks import network_kind
from .overrides import Overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from transformers import PreTrainedModel

    from ..weights.stored import Stored


class Opened:
    """The result of `families.open`: a family's match, with weights to use from elsewhere.

    Args:
        overrides: weights that replace the model's own or supply those it lacks.
        allow_pickle: allow pickles among the overrides, reading only their tensors.
    """

    def __init__(self, match: Match, overrides: Overrides, allow_pickle: bool = False) -> None:
        self.match, self.given, self.allow_pickle = match, overrides, allow_pickle
        self.overrides = overrides.halved()
        self._forms: dict[Part, Form] = {}

    @property
    def path(self) -> Path:
        """The model's folder or single file."""
        return self.match.path

    @cached_property
    def config(self) -> ModelConfig:
        """The model's own config, changed to that of a pair if a second DiT is given.

        Raises:
            CheckpointError: a second DiT for a model that cannot use one, or an invalid boundary.
        """
        own = self.match.config
        if self.overrides.transformer_2 is None:
            return own
        if not network_kind(own).takes_extras:
            raise CheckpointError(
                f"{str(self.path)!r} has no Wan DiT, and only Wan DiTs come in pairs; leave out the second network."
            )
        said = None
        if self.given.transformer_2 is None:  # one folder holds both DiTs
            said = read_boundary(self.given.transformer / INDEX)
        return replace(own, denoiser=replace(own.denoiser, boundary=said or own.denoiser.boundary or USUAL))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that make up the model."""
        return tuple(part for part in Part if part is not Part.DIT_2 or self.config.denoiser.boundary)

    @property
    def merged(self) -> set[Part]:
        """The parts whose weights change on loading because the model's file holds a LoRA for them."""
        return {part for part in self.parts if self.loras(part)}

    def loras(self, part: Part) -> Mapping[str, tuple[str, str]]:
        """The LoRA in the model's file for a part, as in `Match.loras`; both DiTs of a pair share one."""
        return self.match.loras.get(part.kind) or {}

    def form(self, part: Part) -> Form:
        """The weights of one part.

        Raises:
            CheckpointError: none given, and the model's own are missing or incomplete; or files of another kind.
        """
        if part not in self._forms:
            self._forms[part] = self.match.held.get(part) or self._outside(part)
        return self._forms[part]

    @cached_property
    def sizes(self) -> Form:
        """The DiT that supplies sizes not shown by shapes: a given one, even if the model's file holds a DiT.

        Raises:
            CheckpointError: as `form`.
        """
        return self._outside(Part.DIT) if self.overrides.transformer else self.form(Part.DIT)

    def check(self) -> dict[Part, nn.Module]:
        """Check that the parts are complete and fit each other and the model; return them without weights.

        Raises:
            CheckpointError: a part is incomplete or does not fit.
        """
        forms = {part: self.form(part) for part in self.parts}
        dit, vae, mllm = forms[Part.DIT], forms[Part.VAE], forms[Part.MLLM]
        for form in forms.values():
            if form is not mllm:
                check_kind(self.config, self.path, form)
        check_context(self.config, self.path, self.sizes)
        empty: dict[Part, nn.Module] = {
            Part.DIT: checked_network(dit, self.sizes),
            Part.VAE: checked_autoencoder(vae),
            Part.MLLM: checked_reader(mllm, reader_config(mllm, self.match.folder)),
        }
        if Part.DIT_2 in forms:
            check_alike(dit, forms[Part.DIT_2])
            empty[Part.DIT_2] = checked_network(forms[Part.DIT_2], self.sizes)
        check_sizes(self.config, self.path, dit, vae, mllm)
        check_streams(self.config, self.path, dit, empty[Part.MLLM])
        for part in self.parts:
            self.check_loras(part)
        return empty

    def check_loras(self, part: Part) -> None:
        """Raise CheckpointError for LoRA on GGUF, or a pair [rank, in], [out, rank] that fits no weight [out, in]."""
        loras = self.loras(part)
        if not loras:
            return
        form = self.form(part)
        if form.is_gguf:
            raise CheckpointError(
                f"{str(self.path)!r} holds a LoRA, which GGUF weights cannot take; give weights in another format."
            )
        _check_targets(self.match, loras, self.lora_targets(part), form)

    def lora_targets(self, part: Part) -> dict[str, Stored]:
        """A part's weights, keyed by their names in `Match.loras`."""
        tensors = self.form(part).tensors
        if part.kind is Part.DIT:
            return to_diffusers(self.form(part), tensors)
        return {bare_mllm(name): stored for name, stored in tensors.items()}

    def _title(self, part: Part) -> str:
        if part is Part.MLLM:
            return guidance_class(self.config).reads
        title = network_kind(self.config).titles[part.kind]
        return f"second {title}, for low noise," if part is Part.DIT_2 else title

    def _outside(self, part: Part) -> Form:
        """A part stored in its own files."""
        given = self.overrides.given(part)
        if given is not None:
            return find_form(given, part.kind, self.allow_pickle)
        folder = self.match.folders.get(part)
        if folder is None or not folder.is_dir():
            raise CheckpointError(
                f"{str(self.path)!r} has no {self._title(part)} of its own; give the one that it was trained on "
                f"({part.value}=PATH, on the command line {part.option} PATH)."
            )
        check_config(folder)
        return find_form(folder, part.kind, self.allow_pickle)


def check_sizes(config: ModelConfig, model: Path, dit: Form, vae: Form, mllm: Form) -> None:
    """Raise CheckpointError unless complete parts fit each other and a config.

    Args:
        model: the path of the config's model, for messages.
    """
    check_context(config, model, dit)
    check_reader(config, model, mllm)
    width, reads = reader_width(mllm), "umT5" if mllm.is_text else "MLLM"
    if width != config.connector.input_dim:
        raise CheckpointError(
            f"{str(model)!r} takes hidden states of width {config.connector.input_dim}, but the {reads} in "
            f"{str(mllm.path)!r} has {width}; give the {reads} that it was trained on."
        )
    made, taken = latent_channels(vae), network_sizes(dit).channels
    if made != taken:
        raise CheckpointError(
            f"the VAE in {str(vae.path)!r} makes {made} channels, but the DiT in {str(dit.path)!r} takes {taken}; "
            "give a VAE and a DiT of the same model."
        )


def check_alike(first: Form, second: Form) -> None:
    """Raise CheckpointError unless two DiTs form a pair: the same tensors, shapes and number of heads."""
    odd = first_difference(*(shapes_of(to_diffusers(form, form.tensors)) for form in (first, second)))
    if not odd and first.has_config and second.has_config:
        heads, others = (dit_config(form).get("num_attention_heads") for form in (first, second))
        odd = "" if heads == others else f"num_attention_heads is {others}, expected {heads}"
    if odd:
        raise CheckpointError(
            f"the DiTs in {str(first.path)!r} and {str(second.path)!r} are not a pair: in the second, {odd}; give both "
            "DiTs of the same model."
        )


def check_streams(config: ModelConfig, model: Path, dit: Form, mllm: PreTrainedModel) -> None:
    """Raise CheckpointError unless a two-stream connector's widths match the vision tower and the UNet."""
    if config.connector.kind is not ConnectorKind.TWO_STREAM or not config.connector.two_stream.bim:
        return
    own = config.connector.two_stream
    for name, wanted, found in (
        ("vision features", own.vision_dim, mllm.config.vision_config.hidden_size),
        ("a first UNet layer", own.addend_dim, network_sizes(dit).width),
    ):
        if wanted != found:
            raise CheckpointError(
                f"{str(model)!r} was trained with {name} of width {wanted}, not {found}; give the LLaVA and the UNet "
                "that it was trained on."
            )


def check_kind(config: ModelConfig, model: Path, form: Form) -> None:
    """Raise CheckpointError unless a DiT or VAE is of the kind the model was trained on."""
    wanted = network_kind(config).titles[form.part]
    if form.title != wanted:
        raise CheckpointError(
            f"{str(model)!r} was trained on a {wanted}, but {str(form.path)!r} is a {form.title}; give a {wanted}."
        )


def check_reader(config: ModelConfig, model: Path, form: Form) -> None:
    """Raise CheckpointError unless the instruction reader is of the kind the model's guidance needs."""
    wanted = guidance_class(config).reads
    if form.title != wanted:
        raise CheckpointError(
            f"{str(model)!r} is guided by a {wanted} (guidance.kind is {config.guidance.kind.value}), but "
            f"{str(form.path)!r} is a {form.title}; give a {wanted}."
        )


def check_context(config: ModelConfig, model: Path, dit: Form) -> None:
    """Raise CheckpointError unless the model's context has the width the DiT takes."""
    sizes = network_sizes(dit)
    taken = sizes.width if config.connector.entry is ContextEntry.WIDTH else sizes.text_dim
    if config.connector.output_dim != taken:
        raise CheckpointError(
            f"{str(model)!r} makes a context of width {config.connector.output_dim}, but the DiT in "
            f"{str(dit.path)!r} takes {taken}; give the DiT that it was trained on."
        )


def _check_targets(
    match: Match, lora: Mapping[str, tuple[str, str]], weights: Mapping[str, Stored], base: Form
) -> None:
    """Raise CheckpointError unless each pair, [rank, in] and [out, rank], fits a weight [out, in] of the base."""
    for name, pair in lora.items():
        held = {there: match.stored[match.path][there] for there in pair}
        check_types({there: stored.dtype for there, stored in held.items() if not stored.is_float}, match.path)
        first, second = (stored.shape for stored in held.values())
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise CheckpointError(
                f"{str(match.path)!r} has a LoRA for {escaped(name)} of {first} and {second}, which are not two "
                "matrices of the same rank; get the file again."
            )
        made = (second[0], first[1])
        found = tuple(weights[name].shape) if name in weights else None
        if found != made:
            raise CheckpointError(
                f"{str(match.path)!r} has a LoRA for {escaped(name)} of {made}, but in {str(base.path)!r} the weight "
                f"is {found or 'missing'}; give the model that it was trained on."
            )
