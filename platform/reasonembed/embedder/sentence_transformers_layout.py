"""The Sentence Transformers layout of a model folder: the files for modules, pooling and prompts."""

import json
from pathlib import Path
from typing import Any

from reasonembed.embedder.pooling import MODES
from reasonembed.errors import UserError

MODULES_FILE = "modules.json"
# Our name of a pooling mode -> its name in Sentence Transformers' pooling config.
POOLING_FLAGS = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}


def read_layout(folder: Path) -> tuple[str | None, dict[str, str]]:
    """Reads pooling mode and prompts of a model folder.

    Returns:
        The pooling mode, which is None for a plain ``transformers`` folder, and the prompts by name.

    Raises:
        UserError: the folder asks for a pooling that is not one of ``pooling.MODES``.
    """
    pooling = None
    pooling_file = folder / "1_Pooling" / "config.json"
    if pooling_file.exists():
        config = json.loads(pooling_file.read_text(encoding="utf-8"))
        modes = {f"pooling_mode_{flag}": mode for mode, flag in POOLING_FLAGS.items()}
        active = [
            modes.get(key, key) for key, value in config.items() if value is True and key.startswith("pooling_mode_")
        ]
        active = active or [str(config.get("pooling_mode", "mean"))]
        if len(active) != 1 or active[0] not in MODES:
            raise UserError(
                f"{pooling_file}: pooling {' + '.join(active)} is not supported; choose one of {', '.join(MODES)}"
            )
        pooling = active[0]
    prompts_file = folder / "config_sentence_transformers.json"
    prompts = json.loads(prompts_file.read_text(encoding="utf-8")).get("prompts") if prompts_file.exists() else None
    return pooling, {name: prompt for name, prompt in (prompts or {}).items() if prompt}


def write_layout(folder: Path, dimension: int, pooling: str, max_tokens: int, prompts: dict[str, str]) -> None:
    """Adds the files that turn a ``transformers`` folder into one of Sentence Transformers.

    vLLM's pooling runner reads these files too.

    Args:
        folder: the model folder.
        dimension: numbers in a vector.
        pooling: one of ``pooling.MODES``.
        max_tokens: the length to which texts are cut.
        prompts: prompts by name, such as ``query``.
    """
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "2_Normalize").mkdir(parents=True, exist_ok=True)
    _write_json(folder / MODULES_FILE, modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": dimension}
        | {f"pooling_mode_{flag}": pooling == mode for mode, flag in POOLING_FLAGS.items()},
    )
    _write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "", "document": ""} | prompts, "similarity_fn_name": "cosine"},
    )


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
