"""Load, run and save an embedder as a Sentence Transformers folder (modules, pooling, prompts, safetensors)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from reasonembed import storage
from reasonembed.embedder.batching import token_batches
from reasonembed.embedder.pooling import MODES, pool
from reasonembed.embedder.source import resolve
from reasonembed.errors import UserError

transformers_logging.disable_progress_bar()


class Embedder(nn.Module):
    """Texts to unit vectors. ``prompts`` maps ``query`` to what goes before a query's text."""

    def __init__(self, backbone: Any, tokenizer: Any, pooling: str, prompts: dict[str, str]) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.prompts = prompts

    @classmethod
    def load(cls, name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Embedder":
        """
        Raises:
            UserError: neither a folder nor the hub has a model of that name that can be read.
        """
        if storage.is_s3(name):
            with storage.local_copy(name) as folder:
                return cls.load(str(folder), device, dtype)
        place = resolve(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
            backbone = AutoModel.from_pretrained(place, dtype=dtype, use_safetensors=True)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model {name} cannot be loaded: {reason}") from None
        pooling, prompts = _read_sentence_transformers(Path(place)) if Path(place).is_dir() else ("mean", {})
        return cls(backbone.to(device), tokenizer, pooling, prompts)

    @property
    def dimension(self) -> int:
        return int(self.backbone.config.hidden_size)

    def tokenize(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        limit = min(max_tokens, self.context_length)
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return ids

    @property
    def context_length(self) -> int:
        return int(getattr(self.backbone.config, "max_position_embeddings", 1 << 20))

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Padded ``input_ids`` and ``attention_mask`` on the model's device."""
        device = next(self.backbone.parameters()).device
        batch = self.tokenizer.pad({"input_ids": [list(row) for row in ids]}, return_tensors="pt")
        return {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) ids and mask to (batch, dim) unit vectors."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(states, attention_mask, self.pooling)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int, batch_tokens: int = 2048, prompt: str = "") -> np.ndarray:
        """(texts, dim) float32 unit vectors, in the order of the texts.

        Args:
            texts: what to encode.
            max_tokens: longer texts are cut (at the model's own limit in any case).
            batch_tokens: budget of a batch, padding included.
            prompt: put before every text.
        """
        self.eval()
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        ids = self.tokenize([prompt + text for text in texts], max_tokens) if len(texts) else []
        for batch in token_batches([len(row) for row in ids], batch_tokens):
            vectors[batch] = self(**self.pad([ids[i] for i in batch])).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise UserError(
                f"the model gives vectors that are not finite numbers, first for the text {texts[bad][:80]!r}"
            )
        return vectors

    def save(self, folder: Path, max_tokens: int) -> None:
        """Write a folder that ``transformers``, Sentence Transformers and vLLM load unchanged."""
        self.backbone.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        sequence = min(max_tokens, self.context_length)
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        pooling = {"word_embedding_dimension": self.dimension} | {
            f"pooling_mode_{key}": self.pooling == mode
            for key, mode in (("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "lasttoken"))
        }
        (folder / "2_Normalize").mkdir(parents=True, exist_ok=True)
        _write_json(folder / "modules.json", modules)
        _write_json(folder / "sentence_bert_config.json", {"max_seq_length": sequence, "do_lower_case": False})
        _write_json(folder / "1_Pooling" / "config.json", pooling)
        _write_json(
            folder / "config_sentence_transformers.json",
            {"prompts": {"query": "", "document": ""} | self.prompts, "similarity_fn_name": "cosine"},
        )


def _read_sentence_transformers(folder: Path) -> tuple[str, dict[str, str]]:
    """Pooling and prompts of a Sentence Transformers folder; a plain ``transformers`` folder is mean-pooled."""
    pooling = "mean"
    config = folder / "1_Pooling" / "config.json"
    if config.exists():
        flags = json.loads(config.read_text(encoding="utf-8"))
        flags.pop("word_embedding_dimension", None)
        chosen = [
            key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
            for key, on in flags.items()
            if on is True and key.startswith("pooling_mode_")
        ]
        chosen = chosen or [str(flags.get("pooling_mode", "mean"))]
        if len(chosen) != 1 or chosen[0] not in MODES:
            raise UserError(
                f"{config}: pooling {' + '.join(chosen)} is not supported; choose one of {', '.join(MODES)}"
            )
        pooling = chosen[0]
    settings = folder / "config_sentence_transformers.json"
    prompts = json.loads(settings.read_text(encoding="utf-8")).get("prompts") if settings.exists() else None
    return pooling, {key: value for key, value in (prompts or {}).items() if value}


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
