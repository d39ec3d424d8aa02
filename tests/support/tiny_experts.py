"""Experts' real classes at tiny sizes, of random weights, as folders that a config names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from support import text_encoder

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CLIP_WORDS = ["l", "o", "w", "e", "r", "s", "t", "i", "d", "n", "lo", "l</w>", "w</w>", "r</w>", "t</w>"]


def save_grounding_dino(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    swin = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "image_size": 64, "out_indices": [2, 3, 4]}
    bert = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    layers = {"encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    layers |= {"decoder_layers": 2}  # one has no heads to tie, which fails in transformers 5.24
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(**swin, window_size=7),
        text_config=BertConfig(**bert, max_position_embeddings=32, vocab_size=30),
        d_model=32,  # as many as its group norm has groups
        num_queries=10,
        max_text_len=32,
        **layers,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "cat"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    pixels = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    GroundingDinoProcessor(image_processor=pixels, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_picture_editor(folder: Path) -> Path:
    """An InstructPix2Pix."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        block_out_channels=[8, 8],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**small, vocab_size=40, max_position_embeddings=16)),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def clip_tokenizer() -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    vocabulary = {word: number for number, word in enumerate([*CLIP_WORDS, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(
        vocab=vocabulary, merges=[("l", "o")], unk_token="<|endoftext|>", model_max_length=16, pad_token="<|endoftext|>"
    )


def save_detector(folder: Path) -> Path:
    """An OWLv2."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config=small | {"vocab_size": 40, "max_position_embeddings": 16},
        vision_config=small | {"image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    pixels = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    Owlv2Processor(image_processor=pixels, tokenizer=clip_tokenizer()).save_pretrained(folder)
    return folder


def save_tracker(folder: Path) -> Path:
    """A SAM 2 for videos, of 64 pixels."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(2)  # its masks are neither empty nor full, on noise and on the world
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [],
        "window_positional_embedding_background_size": [2, 2],
        "window_size_per_stage": [4, 2, 2, 2],
    }
    config = Sam2VideoConfig(
        vision_config={
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 128,
        },
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        image_size=64,
        memory_attention_hidden_size=128,  # more than the memory's 64, else transformers 5.24 fails
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
    )
    Sam2VideoModel(config).save_pretrained(folder)
    return folder


def save_vace(folder: Path) -> Path:
    """A Wan VACE."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel

    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=16,
        num_layers=2,
        vace_layers=[0],
        vace_in_channels=96,
    )
    WanVACEPipeline(
        tokenizer=text_encoder.text_tokenizer(),
        text_encoder=text_encoder.text_encoder(16),
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def save_poser(folder: Path) -> Path:
    """A ViTPose."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessorPil

    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=[64, 48],
        patch_size=[16, 16],
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        out_features=["stage1"],
    )
    VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=5)).save_pretrained(folder)
    VitPoseImageProcessorPil(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder
