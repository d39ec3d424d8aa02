"""InsightEdit's bridging (section 4.2): text through a Q-Former and a BIM, the image through an IAA.

- Q-Former: q' [B, 77, 768] from the hidden states h of the [MM] tokens [B, r, 4096].
- BIM: q' and the picture's features E(I_src) [B, 256, 1024] attend to each other. f_txt = q' + .5 times its text
  output; its visual output v_txt starts at zero and is added after the UNet's first convolution.
- IAA: a mapper reduces h to one embedding, aligned with CLIP's of the target picture; a linear layer and a layer norm
  expand it to N image tokens.

The first two are SmartEdit's, whose weights can be loaded (see `families.insightedit.keys`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from ..config import ConnectorConfig, TwoStreamConfig
from ..context import Context
from ..errors import InputError
from .connector import Connector
from .qformer import fresh_tokens, make_qformer


class TwoStreamConnector(Connector):
    """Tokens [B, r, input_dim] and features [B, patches, vision_dim] -> f_txt [B, tokens, output_dim], f_img, v_txt."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__(config)
        width, own = config.hidden_dim, config.two_stream
        self.tokens = fresh_tokens(config)
        self.qformer = make_qformer(config)
        # the UNet's text encoder's output for "": the context of an edit without an instruction
        self.register_buffer("unasked", torch.zeros(1, config.tokens, config.output_dim))
        self.bim = BIM(width, own) if own.bim else None
        self.iaa = IAA(config.input_dim, config.output_dim, own) if own.iaa else None

    def forward(self, guidance: Context, reference_places: int = 0) -> Context:
        hidden = guidance.tokens  # [B, r, input_dim]
        text = self.aligned(hidden)
        addend = None
        if self.bim is not None:
            if guidance.image is None:
                raise InputError("This model's connector reads a picture as well as the instruction; give a source.")
            text, addend = self.bim(text, guidance.image)
        image = None if self.iaa is None else self.iaa(hidden)
        return replace(guidance, tokens=text, mask=None, image=image, addend=addend)

    def aligned(self, hidden: torch.Tensor) -> torch.Tensor:
        """q' [B, tokens, hidden_dim] of hidden states [B, r, input_dim]; stage 1 aligns it with CLIP's text encoder."""
        queries = self.tokens.expand(len(hidden), -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=hidden).last_hidden_state

    def unasking(self, context: Context) -> Context:
        """The context with the text encoder's "" as f_txt, and zeros as image tokens, which contribute nothing.

        v_txt is kept, as in SmartEdit, whose guidance has it in all three terms.
        """
        tokens = self.unasked.to(context.tokens).expand_as(context.tokens)
        return replace(context, tokens=tokens, image=None if context.image is None else torch.zeros_like(context.image))

    def projections(self) -> Iterator[nn.Linear]:
        yield from ()


class BIM(nn.Module):
    """Text [B, N, width] and a picture's features [B, side * side, vision_dim] -> f_txt, and v_txt [B, C, side, side].

    The features' positions are encoded with random frequencies (Tancik 2020), drawn once and saved with the weights.
    """

    def __init__(self, width: int, config: TwoStreamConfig) -> None:
        from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
        from transformers.models.sam.modeling_sam import SamTwoWayTransformer

        super().__init__()
        self.text_share = config.text_share
        self.text_in = nn.Linear(width, config.vision_dim)
        self.transformer = SamTwoWayTransformer(
            SamMaskDecoderConfig(
                hidden_size=config.vision_dim,
                num_hidden_layers=config.bim_layers,
                num_attention_heads=config.bim_heads,
                mlp_dim=config.bim_hidden,
                layer_norm_eps=1e-5,  # as in SAM's original code, with which the weights were trained
                attn_implementation="sdpa",
            )
        )
        self.register_buffer("frequencies", torch.randn(2, config.vision_dim // 2))
        self.text_out = nn.Linear(config.vision_dim, width)
        self.image_out = nn.Conv2d(config.vision_dim, config.addend_dim, kernel_size=1)
        for layer in (self.text_out, self.image_out):  # changes nothing until it is trained
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, text: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        side = math.isqrt(features.shape[1])
        pixels = features.to(text).transpose(1, 2).unflatten(2, (side, side))  # [B, vision_dim, side, side]
        # SAM's batch has one more axis: several prompts for one picture
        read, seen = self.transformer(
            point_embeddings=self.text_in(text)[:, None],
            image_embeddings=pixels,
            image_positional_embeddings=self.positions(side).to(text).expand_as(pixels),
            attention_similarity=None,
        )[:2]
        visual = seen[:, 0].transpose(1, 2).unflatten(2, (side, side))
        return text + self.text_share * self.text_out(read[:, 0]), self.image_out(visual)

    def positions(self, side: int) -> torch.Tensor:
        """Sines and cosines [1, vision_dim, side, side] of the positions' centres, from -1 to 1 on both axes."""
        middles = (torch.arange(side, device=self.frequencies.device, dtype=torch.float32) + 0.5) / side * 2 - 1
        places = torch.stack([middles.expand(side, side), middles[:, None].expand(side, side)], dim=-1)  # x, y
        angles = 2 * math.pi * (places @ self.frequencies.float())  # [side, side, vision_dim / 2]
        return torch.cat([angles.sin(), angles.cos()], dim=-1).permute(2, 0, 1)[None]

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> BIM:
        exact = self.frequencies
        super()._apply(fn, recurse)
        if not exact.is_meta:
            self.frequencies = exact.to(self.frequencies.device)  # not rounded with the weights
        return self


class IAA(nn.Module):
    """Hidden states [B, r, input_dim] -> image tokens [B, N, output_dim], via one CLIP image embedding."""

    def __init__(self, input_dim: int, output_dim: int, config: TwoStreamConfig) -> None:
        from diffusers.models.embeddings import ImageProjection

        super().__init__()
        widths = [input_dim] * config.mapper_layers + [config.image_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mapper = nn.Sequential(*layers[:-1])
        self.projection = ImageProjection(config.image_dim, output_dim, config.image_tokens)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.projection(self.mapped(hidden))

    def mapped(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mapper(h) [B, image_dim], which L_IAA pulls towards CLIP's embedding of the target (eq. 5)."""
        return self.mapper(hidden.mean(1))
