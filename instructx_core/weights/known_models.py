"""Public models that `instructx download` fetches by a short name."""

from __future__ import annotations

from dataclasses import dataclass

NOT_STATED = "not stated"


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub."""

    name: str  # what the user types
    repository: str  # owner/name
    size: str  # of the download, for display
    licence: str  # of the weights, as stated on their page; a download shows what the hub says at that time
    # the commit to fetch; None if none has been reviewed: fetch the newest and record it in the folder
    commit: str | None = None


_STAGE = "linyq/wan2.2_ti2v_5b_qwen25vl_3b_stage"
KNOWN = (
    *(
        KnownModel(f"kiwi-edit-5b-{kind}", f"linyq/kiwi-edit-5b-{kind}-diffusers", "20 to 30 GB", NOT_STATED)
        for kind in ("instruct-only", "instruct-reference", "reference-only")
    ),
    # training checkpoints, one file each: VAE and MLLM come from elsewhere
    KnownModel("kiwi-edit-stage2-600", f"{_STAGE}2_img_vid_600x600_81f", "10 to 20 GB", NOT_STATED),
    KnownModel("kiwi-edit-stage2-720", f"{_STAGE}2_img_vid_720x1280_81f", "10 to 20 GB", NOT_STATED),
    KnownModel("kiwi-edit-stage3", f"{_STAGE}3_img_vid_refvid_720x1280_81f", "10 to 20 GB", NOT_STATED),
    KnownModel(
        "kiwi-edit-stage3-reference", f"{_STAGE}3_refvid_only_720x1280_81f_pad_first", "10 to 20 GB", NOT_STATED
    ),
    KnownModel("kiwi-sparkle", "stdKonjac/Kiwi-Sparkle-720P-81F", "10 to 20 GB", "CC BY 4.0"),
    # the same models in bfloat16
    *(
        KnownModel(f"kiwi-edit-bf16-{kind}", f"AEmotionStudio/kiwi-edit-{kind}", "10 to 20 GB", NOT_STATED)
        for kind in ("instruct", "instruct-reference", "reference")
    ),
    KnownModel("unigen-lingxi-5b", "shyai/UniGen-LingXi-5B", "20 to 30 GB", "MIT, elsewhere on its page Apache-2.0"),
    KnownModel("bernini-r-1.3b", "ByteDance/Bernini-R-1.3B-Diffusers", "29 GB", "Apache-2.0"),
    # one file: DiT, VAE and MLLM come from elsewhere
    KnownModel("coinve-edit", "FireCRT/CoinVE-Edit", "3 GB", "Apache-2.0"),
)


def folder_name(repository: str) -> str:
    """The local folder name of a hub model: "owner/name" -> "owner--name"."""
    return repository.replace("/", "--")


def find_known(name: str) -> KnownModel | None:
    """The known model with this short name, hub id or folder name."""
    for model in KNOWN:
        if name in (model.name, model.repository, folder_name(model.repository)):
            return model
    return None
