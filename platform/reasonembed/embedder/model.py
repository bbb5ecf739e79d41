"""Load, run and save an embedder as a Sentence Transformers folder (modules, pooling, prompts, safetensors)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import processors
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import logging as transformers_logging

from reasonembed import storage
from reasonembed.config import Encode
from reasonembed.embedder.layout import read_layout, write_layout
from reasonembed.embedder.model_source import local_folder
from reasonembed.embedder.pooling import pool
from reasonembed.embedder.token_batches import token_batches
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
    def load(
        cls,
        name: str,
        settings: Encode | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Embedder":
        """
        Args:
            name: folder, ``s3://`` folder, hub id or ``package:<module>``.
            settings: its pooling, and whether code that comes with the model may run.
            device: for the weights.
            dtype: of the weights.

        Raises:
            UserError: neither a folder nor the hub has a model of that name that can be read.
        """
        if storage.is_s3(name):
            with storage.local_copy(name) as folder:
                return cls.load(str(folder), settings, device, dtype)
        settings = settings or Encode()
        place, trust = local_folder(name), settings.trust_remote_code
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust)
            backbone = AutoModel.from_pretrained(place, dtype=dtype, use_safetensors=True, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model {name} cannot be loaded: {reason}") from None
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler.requires_grad_(False)  # BERT's head on the first token, which no pooling here looks at
        said, prompts = read_layout(Path(place))
        chosen = settings.pooling if settings.pooling != "auto" else said or _by_kind(backbone)
        if chosen == "lasttoken" and said != chosen:
            end_with_eos(tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return cls(backbone.to(device), tokenizer, chosen, prompts)

    @property
    def dimension(self) -> int:
        return int(self.backbone.config.hidden_size)

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """What the model's folder wants before a text of this kind; nothing for most."""
        names = ("query",) if kind == "query" else ("document", "passage", "corpus")
        return next((self.prompts[name] for name in names if name in self.prompts), "")

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

    def encode(self, texts: Sequence[str], max_tokens: int, batch_tokens: int = 2048, prompt: str = "") -> np.ndarray:
        """(texts, dim) float32 unit vectors, in the order of the texts.

        Args:
            texts: what to encode.
            max_tokens: longer texts are cut (at the model's own limit in any case).
            batch_tokens: budget of a batch, padding included.
            prompt: put before every text.
        """
        ids = self.tokenize([prompt + text for text in texts], max_tokens) if len(texts) else []
        vectors = self.encode_ids(ids, batch_tokens)
        if not np.isfinite(vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise UserError(
                f"the model gives vectors that are not finite numbers, first for the text {texts[bad][:80]!r}"
            )
        return vectors

    @torch.inference_mode()
    def encode_ids(self, ids: Sequence[Sequence[int]], batch_tokens: int) -> np.ndarray:
        """(texts, dim) float32 unit vectors of texts that ``tokenize`` made into ids."""
        self.eval()
        vectors = np.zeros((len(ids), self.dimension), np.float32)
        for batch in token_batches([len(row) for row in ids], batch_tokens, next(self.parameters()).device):
            vectors[batch] = self(**self.pad([ids[i] for i in batch])).float().cpu().numpy()
        return vectors

    def save(self, folder: Path, max_tokens: int) -> None:
        """Write a folder that ``transformers``, Sentence Transformers and vLLM load unchanged; LoRA is merged in."""
        if hasattr(self.backbone, "peft_config"):
            from reasonembed.embedder.lora import merged_weights

            self.backbone.get_base_model().save_pretrained(
                folder, state_dict=merged_weights(self.backbone), safe_serialization=True
            )
        else:
            self.backbone.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        write_layout(folder, self.dimension, self.pooling, min(max_tokens, self.context_length), self.prompts)


def _by_kind(backbone: Any) -> str:
    """A decoder's last token has seen the whole text; of an encoder's tokens the mean is taken."""
    kind = type(backbone.config)
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    return "lasttoken" if decoder else "mean"


def end_with_eos(tokenizer: Any) -> None:
    """Let the tokenizer itself put its end-of-text token behind every text, as last-token pooling wants it.

    It is a part of the tokenizer that is saved, so that every tool that loads the folder does the same. Nothing happens
    to a tokenizer that ends so already.
    """
    eos = tokenizer.eos_token_id
    found = tokenizer("a", return_special_tokens_mask=True)
    ids, special = found["input_ids"], found["special_tokens_mask"]
    if eos is None or ids[-1] == eos:
        return
    start = special.index(0)
    before = tokenizer.convert_ids_to_tokens(ids[:start])
    after = [token for token, kind in zip(ids[start:], special[start:], strict=True) if kind]
    behind = [*tokenizer.convert_ids_to_tokens(after), tokenizer.eos_token]
    # One template for all of it: a second one behind the tokenizer's own would end the first token instead of the text.
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *behind],
        pair=[*before, "$A", *behind, *(f"{name}:1" for name in before), "$B:1", *(f"{name}:1" for name in behind)],
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in {*before, *behind}],
    )
