"""Configs that say what a model is, without where it was loaded from."""

from __future__ import annotations

import json
from pathlib import Path

from ..bounded import parse_json, read_text

CONFIGS = {"config.json", "tokenizer_config.json"}  # where libraries note what is of no use to anyone else
OF_THE_LOADER = {"_name_or_path", "is_local", "local_files_only", "dtype", "torch_dtype"}  # the weights tell their own


def make_portable(path: Path) -> None:
    """Rewrite a config as `portable` has it."""
    path.write_text(portable(read_text(path)), encoding="utf-8")


def portable(config: str) -> str:
    """A config's JSON without where the model was loaded from, the tokenizer's class named as transformers 4 does."""
    plain = parse_json(config, "the config")
    for part in (plain, *(value for value in plain.values() if isinstance(value, dict))):
        for name in OF_THE_LOADER & part.keys():
            del part[name]
    if plain.get("tokenizer_class") == "TokenizersBackend":
        plain["tokenizer_class"] = "PreTrainedTokenizerFast"
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
