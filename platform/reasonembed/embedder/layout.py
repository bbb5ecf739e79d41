"""The Sentence Transformers layout of a model folder: modules, pooling, prompts."""

import json
from pathlib import Path
from typing import Any

from reasonembed.embedder.pooling import MODES
from reasonembed.errors import UserError

MODULES = "modules.json"
FLAGS = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}


def read_layout(folder: Path) -> tuple[str | None, dict[str, str]]:
    """Pooling and prompts; the pooling of a plain ``transformers`` folder is None.

    Raises:
        UserError: the folder asks for another pooling than ``pooling.MODES``.
    """
    pooling = None
    config = folder / "1_Pooling" / "config.json"
    if config.exists():
        flags = json.loads(config.read_text(encoding="utf-8"))
        modes = {f"pooling_mode_{flag}": mode for mode, flag in FLAGS.items()}
        chosen = [modes.get(key, key) for key, on in flags.items() if on is True and key.startswith("pooling_mode_")]
        chosen = chosen or [str(flags.get("pooling_mode", "mean"))]
        if len(chosen) != 1 or chosen[0] not in MODES:
            raise UserError(
                f"{config}: pooling {' + '.join(chosen)} is not supported; choose one of {', '.join(MODES)}"
            )
        pooling = chosen[0]
    settings = folder / "config_sentence_transformers.json"
    prompts = json.loads(settings.read_text(encoding="utf-8")).get("prompts") if settings.exists() else None
    return pooling, {key: value for key, value in (prompts or {}).items() if value}


def write_layout(folder: Path, dimension: int, pooling: str, max_tokens: int, prompts: dict[str, str]) -> None:
    """What makes a ``transformers`` folder one of Sentence Transformers; vLLM's pooling runner reads it too."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "2_Normalize").mkdir(parents=True, exist_ok=True)
    _write_json(folder / MODULES, modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": dimension}
        | {f"pooling_mode_{flag}": pooling == mode for mode, flag in FLAGS.items()},
    )
    _write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "", "document": ""} | prompts, "similarity_fn_name": "cosine"},
    )


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
