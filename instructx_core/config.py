"""Model configs: one frozen dataclass per component, with the paper's values as defaults.

A checkpoint stores its `ModelConfig` as JSON in the metadata of `instructx.safetensors`; nothing else in the library
decides how many queries there are, how the source enters the DiT or how many steps a sampler takes.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from .errors import CheckpointError
from .validation import Length, Range, converted

if TYPE_CHECKING:
    from typing import Self

    from .prediction import SourcePrediction

MOST_PIXELS = 1 << 25  # of a training frame
Pixels = Annotated[int, Range(1, MOST_PIXELS)]
MaybePixels = Annotated[int, Range(0, MOST_PIXELS)]
Width = Annotated[int, Range(1, 65536)]
Side = Annotated[int, Range(16, 16384)]
Places = Annotated[int, Range(1, 65536)]


class Network(str, Enum):
    """The denoising network."""

    WAN = "wan"  # Wan's DiT, for videos and pictures
    UNET = "unet"  # Stable Diffusion 1.5's UNet, for pictures


class SourceInjection(str, Enum):
    """How the source's latent reaches the DiT."""

    LATENT = "latent"  # added to the noisy latent itself (InstructX, section 3.1)
    EMBEDDING = "embedding"  # through its own patch embedding, added to the output of the noisy latent's
    CHANNELS = "channels"  # as additional channels after the noisy latent's (InsightEdit, section 4.3)
    STREAM = "stream"  # as separate tokens, with an id in RoPE


class ContextEntry(str, Enum):
    """Where the connector's output enters the DiT."""

    TEXT = "text"  # in place of the text encoder's output, through the DiT's text embedding (3.1)
    WIDTH = "width"  # at the DiT's width, bypassing its text embedding


class GuidanceKind(str, Enum):
    """Which hidden states guide the DiT (section 3.2, Fig. 3)."""

    QUERIES = "queries"  # those of learnable queries after the MLLM's prompt: the paper's and MetaQuery's
    HIDDEN_STATES = "hidden_states"  # all of the MLLM's, for a Q-Former
    TEXT = "text"  # umT5's, of the instruction only: native Wan's


class ConnectorKind(str, Enum):
    """The network between guidance and DiT (section 3.2, Fig. 3)."""

    MLP = "mlp"  # two layers (the paper's)
    QFORMER = "qformer"  # BLIP-2's, which cross-attends to all hidden states
    TRANSFORMER = "transformer"  # MetaQuery's bidirectional encoder, followed by the MLP
    TWO_STREAM = "two_stream"  # a Q-Former and a BIM for the text, an IAA for the image (InsightEdit, section 4.2)
    NONE = "none"  # the guidance is the context


class Prediction(str, Enum):
    """Meaning of the network's output."""

    VELOCITY = "velocity"  # noise - data: flow matching, as in Wan's training
    NOISE = "noise"  # eps, a diffusion model's
    V = "v"  # a diffusion model's a eps - s x_0: Stable Diffusion 2's v-prediction (arXiv 2202.00512)

    @property
    def is_diffusion(self) -> bool:
        """Whether it is predicted at a diffusion model's noise levels."""
        return self is not Prediction.VELOCITY


class ReferenceInjection(str, Enum):
    """How a reference's latent becomes tokens of the DiT."""

    LATENT = "latent"  # through the DiT's own patch embedding (InstructX, section 3.1)
    EMBEDDING = "embedding"  # through its own patch embedding
    STREAM = "stream"  # as separate tokens in the reference's own size, with an id in RoPE


class Solver(str, Enum):
    """How a run goes from one noise level to the next."""

    EULER = "euler"
    UNIPC = "unipc"  # second order, with a corrector; on its own noise levels


class GuidanceMode(str, Enum):
    """What a run is guided by; `guidance_modes` defines the velocities that each combines."""

    V2V = "v2v"  # the instruction
    V2V_APG = "v2v_apg"  # the instruction, projected
    V2V_CHAIN = "v2v_chain"  # the source, then the instruction
    RV2V = "rv2v"  # the source, the references, then the instruction
    R2V_APG = "r2v_apg"  # the references, then the instruction, projected, without the source
    TASK = "task"  # v2v for images, v2v_apg for clips, rv2v for edits with references


class Margin(str, Enum):
    """Padding of a reference whose aspect differs from the edit's."""

    EDGE = "edge"  # its own edge, repeated
    WHITE = "white"  # white, with the reference in 8 bits, as in Kiwi-Edit's training


class Detail(str, Enum):
    """Whose detail an edit has if its canvas was smaller than its source."""

    SOURCE = "source"  # the source's, in the edit's colours
    MODEL = "model"  # the model's, resized


@dataclass(frozen=True)
class GuidanceConfig:
    """Instruction and frames -> guidance (sections 3.1 and 3.2)."""

    kind: GuidanceKind = GuidanceKind.QUERIES
    image_queries: Annotated[int, Range(1, 65536)] = 256
    video_queries: Annotated[int, Range(0, 65536)] = 512  # 0: videos use the image set (Fig. 9a)
    reference_queries: Annotated[int, Range(0, 65536)] = 0  # 0: edits with a reference use the image or video set
    video_frames: Annotated[int, Range(1, 4096)] = 13  # frames of a video that the MLLM sees; 1: its first (Fig. 9b)
    min_pixels: Pixels = 56 * 56  # a frame's area after resizing is between min_pixels and max_pixels
    max_pixels: Pixels = 480 * 832
    video_max_pixels: MaybePixels = 0  # for a video's frames; 0: as max_pixels
    reference_max_pixels: MaybePixels = 0  # for references; 0: as max_pixels
    # the family's prompt format and choice of hidden states (families/components.py)
    dialect: str = "instructx"
    lora_rank: Annotated[int, Range(0, 8192)] = 320  # 0.60B parameters on Qwen2.5-VL-3B, as in the paper (A.7)
    lora_alpha: Annotated[int, Range(0, 1_000_000)] = 320

    @property
    def queries(self) -> dict[str, int]:
        """The number of queries in each set that exists."""
        if self.kind is not GuidanceKind.QUERIES:
            return {}
        counts = {"image": self.image_queries, "video": self.video_queries, "reference": self.reference_queries}
        return {name: count for name, count in counts.items() if count}

    def query_set(self, is_video: bool, has_reference: bool = False) -> str:
        """The query set that an edit uses; "" for guidance without queries."""
        wanted = ("reference",) * has_reference + ("video",) * is_video + ("image",)
        return next((name for name in wanted if name in self.queries), "")

    def query_count(self, is_video: bool) -> int:
        """The number of queries of an edit without a reference."""
        return self.queries.get(self.query_set(is_video), 0)


@dataclass(frozen=True)
class TwoStreamConfig:
    """The two-stream connector's parts after its Q-Former (InsightEdit, section 4.2), sized for LLaVA-7B and SD 1.5."""

    bim: bool = True  # bidirectional interaction of picture features and text; stage 2 trains without it
    vision_dim: Width = 1024  # of the picture features and the BIM: CLIP ViT-L/14's
    bim_layers: Annotated[int, Range(1, 64)] = 2
    bim_heads: Annotated[int, Range(1, 256)] = 8
    bim_hidden: Width = 2048
    addend_dim: Width = 320  # of the BIM's visual output: the UNet's first width
    text_share: Annotated[float, Range(0, 10)] = 0.5  # f_txt = q' + text_share * the BIM's text output
    iaa: bool = True  # the image alignment adapter; without it there is no image stream
    image_dim: Width = 768  # of the target's CLIP embedding; not published: ViT-L/14's, which LLaVA uses
    # Depth of the mapper, an MLP over the mean of the r tokens. Not published: 2, as the paper's only other MLP
    # (IP-Adapter's projections have one or two); its inner width is its input width.
    mapper_layers: Annotated[int, Range(1, 16)] = 2
    image_tokens: Annotated[int, Range(1, 1024)] = 4  # N

    def problem(self) -> str | None:
        """The first inconsistency; None if there is none."""
        if self.vision_dim % (2 * self.bim_heads):  # the BIM's cross-attention is half as wide
            return (
                f"connector.two_stream.bim_heads is {self.bim_heads}; give a divisor of half of "
                f"connector.two_stream.vision_dim, {self.vision_dim}"
            )
        return None


@dataclass(frozen=True)
class ConnectorConfig:
    """Guidance -> context: a two-layer MLP (section 3.1), or one of the alternatives it was compared with (3.2)."""

    kind: ConnectorKind = ConnectorKind.MLP
    input_dim: Width = 2048
    hidden_dim: Width = 4096  # between the MLP's two layers; the width of a Q-Former
    output_dim: Width = 4096
    entry: ContextEntry = ContextEntry.TEXT
    tanh_gelu: bool = False  # GELU in its tanh approximation
    reads_references: bool = False  # a second MLP for the hidden states of a reference's tokens (Kiwi-Edit)
    layers: Annotated[int, Range(1, 256)] = 24  # of a Q-Former or transformer
    head_dim: Annotated[int, Range(1, 4096)] = 64  # of their attention
    tokens: Annotated[int, Range(1, 65536)] = 256  # output tokens of a Q-Former
    two_stream: TwoStreamConfig = field(default_factory=TwoStreamConfig)

    def problem(self) -> str | None:
        """The first inconsistency, as "FIELD is VALUE, ..."; None if there is none."""
        if self.kind is ConnectorKind.MLP:
            return None
        if self.tanh_gelu or self.reads_references:
            name = "tanh_gelu" if self.tanh_gelu else "reads_references"
            return f"connector.{name} belongs to connector.kind mlp, not {self.kind.value}"
        if self.kind is ConnectorKind.NONE:
            if self.input_dim == self.output_dim:
                return None
            return (
                f"connector.kind is none, which needs connector.input_dim, {self.input_dim}, to equal "
                f"connector.output_dim, {self.output_dim}"
            )
        name = "input_dim" if self.kind is ConnectorKind.TRANSFORMER else "hidden_dim"
        if self.head_dim % 2 or getattr(self, name) % self.head_dim:
            return (
                f"connector.head_dim is {self.head_dim}; for kind {self.kind.value} give an even divisor of "
                f"connector.{name}, {getattr(self, name)}"
            )
        if self.kind is not ConnectorKind.TWO_STREAM:
            return None
        if self.hidden_dim != self.output_dim:  # its Q-Former's output is the context
            return f"connector.hidden_dim is {self.hidden_dim}; give connector.output_dim, {self.output_dim}"
        return self.two_stream.problem()


@dataclass(frozen=True)
class DenoiserConfig:
    """The denoising network, how conditions enter it, and what it predicts."""

    source: SourceInjection = SourceInjection.LATENT
    prediction: Prediction = Prediction.VELOCITY
    # frequencies of the position channels added to an embedded source: see `conditions.source_places`; 0: none
    source_waves: Annotated[int, Range(0, 8)] = 0
    source_fades: bool = False  # an embedded source is scaled by sigma, so it fades with the noise (Kiwi-Edit)
    reference: ReferenceInjection = ReferenceInjection.LATENT
    references_first: bool = False  # their frames come before the edit's, not after
    reference_margin: Margin = Margin.EDGE
    local_edits: bool = False  # several instructions at once, each with its mask (CoinVE-Edit)
    network: Network = Network.WAN
    # the first of a pair of DiTs denoises from this noise level up, the second below it (Wan2.2-A14B); 0: one DiT
    boundary: Annotated[float, Range(0, below=1)] = 0.0
    # tokens of the image stream, for which a UNet has separate keys and values; 0: none
    image_tokens: Annotated[int, Range(0, 1024)] = 0


@dataclass(frozen=True)
class MaskConfig:
    """The mask head: for each of several instructions a mask of where it acts, from the MLLM's states of the clip."""

    input_dim: Width = 4096  # of the MLLM's states
    context_dim: Width = 5120
    width: Width = 256
    layers: Annotated[int, Range(1, 256)] = 2
    heads: Annotated[int, Range(1, 4096)] = 8
    tokens: Annotated[int, Range(1, 65536)] = 4
    grid: tuple[Places, Places, Places] = (64, 64, 64)  # maximum positions along time, height and width


@dataclass(frozen=True)
class SamplingConfig:
    """The settings that `Editor.edit` uses unless the caller overrides them."""

    steps: Annotated[int, Range(1, 1000)] = 50
    shift: Annotated[float, Range(above=0, most=100)] = 5.0
    guidance_scale: Annotated[float, Range(0, 100)] = 1.0  # 1: no classifier-free guidance, one forward per step
    # where the even spacing (before the shift) would end; the last step goes to 0 all the same
    sigma_min: Annotated[float, Range(0, below=1)] = 0.0
    solver: Solver = Solver.EULER
    guidance_mode: GuidanceMode = GuidanceMode.V2V
    source_scale: Annotated[float, Range(0, 100)] = 1.0  # for modes that guide by the source
    reference_scale: Annotated[float, Range(0, 100)] = 1.0  # for modes that guide by references
    second_share: Annotated[float, Range(0, 10)] = 1.0  # factor of these scales for the second of a pair of DiTs
    # InsightEdit's lambda (eq. 6): weight of the image stream, for models that have one. Not published: 1, as in
    # training
    image_stream: Annotated[float, Range(0, 10)] = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a checkpoint that is not in its weights."""

    name: Annotated[str, Length(0, 1000)] = "instructx"
    default_size: tuple[Side, Side] = (480, 832)  # height, width in pixels
    default_frames: Annotated[int, Range(1, 10_000)] = 81
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    masks: MaskConfig | None = None  # for a model that takes several instructions, each acting in its own place

    @property
    def source_prediction(self) -> SourcePrediction | None:
        """What the DiT predicts about the source instead of a velocity; None in the paper, families override it."""
        return None

    @property
    def keep_source(self) -> float:
        """Pixels changed by less than about this share of the edit's strength are taken from the source; 0: none."""
        return 0.0

    @property
    def held_out_from_video(self) -> tuple[str, ...]:
        """Kinds of edit that the model was trained on for pictures only, if it says so."""
        return ()

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_plain(cls, plain: Any, place: str = "") -> Self:
        """A config from plain values, as in JSON and YAML.

        Args:
            place: prefix of the field names in messages, such as "model.".

        Raises:
            CheckpointError: fields that contradict each other.
            FieldError: an unknown field, an unknown variant, or a number out of range.
        """
        return converted(cls, plain, place).checked()

    def checked(self) -> Self:
        """Return this config if all its values are in range and consistent.

        Raises:
            CheckpointError: names the first bad field.
        """
        try:
            converted(type(self), dataclasses.asdict(self))
        except ValueError as error:
            raise CheckpointError(f"The model's config cannot be used ({error}).") from error
        if problem := self.connector.problem() or self._image_problem() or self._network_problem():
            raise CheckpointError(f"The model's config cannot be used ({problem}).")
        guidance, (height, width) = self.guidance, self.default_size
        if self.masks is not None and self.masks.width % self.masks.heads:
            raise CheckpointError(
                f"The model's config cannot be used (masks.heads is {self.masks.heads}; give a divisor of masks.width, "
                f"{self.masks.width})."
            )
        if self.denoiser.source_waves and self.denoiser.source is not SourceInjection.EMBEDDING:
            raise CheckpointError(
                f"The model's config cannot be used (denoiser.source_waves is {self.denoiser.source_waves}; give 0, or "
                "denoiser.source embedding)."
            )
        if guidance.kind is GuidanceKind.TEXT and guidance.lora_rank:
            raise CheckpointError(
                f"The model's config cannot be used (guidance.lora_rank is {guidance.lora_rank}; give 0, because text "
                "guidance is not trained)."
            )
        for name in ("max_pixels", "video_max_pixels", "reference_max_pixels"):
            bound = getattr(guidance, name)
            if 0 < bound < guidance.min_pixels:
                raise CheckpointError(
                    f"The model's config cannot be used (guidance.{name} is {bound}, below guidance.min_pixels, "
                    f"{guidance.min_pixels})."
                )
        if height * width > MOST_PIXELS:
            raise CheckpointError(
                f"The model's config cannot be used (default_size is {height} x {width}; give at most {MOST_PIXELS} "
                "pixels)."
            )
        return self

    def _network_problem(self) -> str | None:
        """A setting that the network does not support, as a message."""
        own, is_unet = self.denoiser, self.denoiser.network is Network.UNET
        for name, is_the_unets in (
            ("source", own.source is SourceInjection.CHANNELS),
            ("prediction", own.prediction.is_diffusion),
        ):
            if is_the_unets != is_unet:
                return (
                    f"denoiser.{name} is {getattr(own, name).value}, which denoiser.network {own.network.value} does "
                    "not support"
                )
        if is_unet and own.boundary:
            return f"denoiser.boundary is {own.boundary:g}, for a pair of DiTs; with denoiser.network unet give 0"
        if not is_unet and self.connector.kind is ConnectorKind.TWO_STREAM:
            return "connector.kind is two_stream, which only denoiser.network unet supports"
        if is_unet and self.sampling.sigma_min:
            return f"sampling.sigma_min is {self.sampling.sigma_min:g}; with denoiser.network unet give 0"
        if is_unet and (self.default_frames, self.sampling.shift) != (1, 1):
            return (
                f"default_frames is {self.default_frames} and sampling.shift {self.sampling.shift:g}; give 1 for both, "
                "because denoiser.network unet edits one picture at a diffusion model's noise levels"
            )
        return None

    def _image_problem(self) -> str | None:
        """A mismatch of connector and denoiser about the image stream, as a message."""
        connector, taken = self.connector, self.denoiser.image_tokens
        has_stream = connector.kind is ConnectorKind.TWO_STREAM and connector.two_stream.iaa
        made = connector.two_stream.image_tokens if has_stream else 0
        return (
            None if made == taken else f"denoiser.image_tokens is {taken}; give {made}, as many as the connector makes"
        )
