"""Make configs portable: remove what depends on where a model was loaded from."""

from __future__ import annotations

import json
from pathlib import Path

from ..bounded import parse_json, read_text

CONFIGS = {"config.json", "tokenizer_config.json"}  # in which libraries record local details
OF_THE_LOADER = {"_name_or_path", "is_local", "local_files_only", "dtype", "torch_dtype"}  # dtypes are in the weights


def make_portable(path: Path) -> None:
    """Rewrite a config file with `portable`."""
    path.write_text(portable(read_text(path)), encoding="utf-8")


def portable(config: str) -> str:
    """A config's JSON without details of its loading, with the tokenizer's class named as in transformers 4."""
    plain = parse_json(config, "the config")
    for part in (plain, *(value for value in plain.values() if isinstance(value, dict))):
        for name in OF_THE_LOADER & part.keys():
            del part[name]
    if plain.get("tokenizer_class") == "TokenizersBackend":
        plain["tokenizer_class"] = "PreTrainedTokenizerFast"
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
