"""The embedder: loads, runs and saves a Sentence Transformers folder (modules, pooling, prompts, safetensors)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import processors
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from reasonembed import storage
from reasonembed.config import Encode
from reasonembed.embedder.model_source import local_folder
from reasonembed.embedder.pooling import pool
from reasonembed.embedder.sentence_transformers_layout import read_layout, write_layout
from reasonembed.embedder.token_batches import token_batches
from reasonembed.errors import JobFailed, UserError

transformers_logging.disable_progress_bar()


class Embedder(nn.Module):
    """A transformer that turns texts into unit vectors.

    Args:
        backbone: a ``transformers`` model.
        tokenizer: its tokenizer.
        pooling: one of ``pooling.MODES``.
        prompts: prompts by name; the one named ``query`` is put before queries.
    """

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
        """Loads an embedder.

        Args:
            name: folder, ``s3://`` folder, hub id or ``package:<module>``.
            settings: the pooling, and whether code that comes with the model may run.
            device: the device of the weights.
            dtype: the number format of the weights.

        Raises:
            UserError: no model of that name exists, or it cannot be read.
        """
        if storage.is_s3(name):
            with storage.local_copy(name) as folder:
                return cls.load(str(folder), settings, device, dtype)
        settings = settings or Encode()
        source, trust = local_folder(name), settings.trust_remote_code
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust)
            backbone = AutoModel.from_pretrained(source, dtype=dtype, use_safetensors=True, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model {name} cannot be loaded: {reason}") from None
        if getattr(backbone, "pooler", None) is not None:
            # BERT's head on the first token, which none of our pooling modes uses.
            backbone.pooler.requires_grad_(False)
        folder_pooling, prompts = read_layout(Path(source))
        pooling = settings.pooling if settings.pooling != "auto" else folder_pooling or _default_pooling(backbone)
        if pooling == "lasttoken" and folder_pooling != pooling:
            append_eos_token(tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return cls(backbone.to(device), tokenizer, pooling, prompts)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self.backbone.config.hidden_size)

    @property
    def context_length(self) -> int:
        """Tokens that the model itself can read at most."""
        return int(getattr(self.backbone.config, "max_position_embeddings", 1 << 20))

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """Returns the prompt that the model's folder puts before texts of a kind; most models have none."""
        names = ("query",) if kind == "query" else ("document", "passage", "corpus")
        return next((self.prompts[name] for name in names if name in self.prompts), "")

    def tokenize(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Returns the token ids of every text, special tokens included, cut to ``max_tokens`` or the model's limit."""
        limit = min(max_tokens, self.context_length)
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return ids

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Returns padded ``input_ids`` and ``attention_mask``, (texts, tokens) each, on the model's device."""
        device = next(self.backbone.parameters()).device
        batch = self.tokenizer.pad({"input_ids": [list(row) for row in ids]}, return_tensors="pt")
        return {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Turns (texts, tokens) ids and mask into (texts, dim) unit vectors."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(states, attention_mask, self.pooling)

    def encode(self, texts: Sequence[str], max_tokens: int, batch_tokens: int = 2048, prompt: str = "") -> np.ndarray:
        """Encodes texts.

        Args:
            texts: the texts.
            max_tokens: longer texts are cut; the model's own limit applies too.
            batch_tokens: tokens in a batch, padding included.
            prompt: put before every text.

        Returns:
            (texts, dim) float32 unit vectors, in the order of the texts.

        Raises:
            UserError: a vector contains a number that is not finite.
        """
        ids = self.tokenize([prompt + text for text in texts], max_tokens) if len(texts) else []
        vectors = self.encode_ids(ids, batch_tokens)
        if not np.isfinite(vectors).all():
            first = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise UserError(
                f"the model gives vectors that are not finite numbers, first for the text {texts[first][:80]!r}"
            )
        return vectors

    @torch.inference_mode()
    def encode_ids(self, ids: Sequence[Sequence[int]], batch_tokens: int) -> np.ndarray:
        """Encodes texts that ``tokenize`` has turned into ids.

        Args:
            ids: token ids of every text.
            batch_tokens: tokens in a batch, padding included.

        Returns:
            (texts, dim) float32 unit vectors, in the order of the texts.
        """
        self.eval()
        vectors = np.zeros((len(ids), self.dimension), np.float32)
        for batch in token_batches([len(row) for row in ids], batch_tokens, next(self.parameters()).device):
            vectors[batch] = self(**self.pad([ids[i] for i in batch])).float().cpu().numpy()
        return vectors

    def save(self, folder: Path, max_tokens: int) -> None:
        """Writes a folder that ``transformers``, Sentence Transformers and vLLM load unchanged; LoRA is merged in.

        Args:
            folder: where to write.
            max_tokens: the length to which tools that load the folder cut texts.

        Raises:
            JobFailed: a weight is not a finite number; nothing is written.
        """
        if hasattr(self.backbone, "peft_config"):
            from reasonembed.embedder.peft_internals import merged_state

            state = merged_state(self.backbone)
            _check_finite(state.values(), folder)
            self.backbone.get_base_model().save_pretrained(folder, state_dict=state, safe_serialization=True)
        else:
            _check_finite(self.backbone.parameters(), folder)
            self.backbone.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        write_layout(folder, self.dimension, self.pooling, min(max_tokens, self.context_length), self.prompts)


def _check_finite(weights: Iterable[torch.Tensor], folder: Path) -> None:
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise JobFailed(f"the model for {folder.name} has weights that are not finite numbers and is not saved")


def _default_pooling(backbone: Any) -> str:
    """Returns ``lasttoken`` for a decoder, whose last token has seen the whole text, and ``mean`` for an encoder."""
    config = type(backbone.config)
    decoder = config in MODEL_FOR_CAUSAL_LM_MAPPING and config not in MODEL_FOR_MASKED_LM_MAPPING
    return "lasttoken" if decoder else "mean"


def append_eos_token(tokenizer: Any) -> None:
    """Makes the tokenizer append its end-of-text token to every text, as last-token pooling needs.

    The change is saved with the tokenizer, so that every tool that loads the folder does the same. A tokenizer that
    already ends texts in this way stays as it is.
    """
    eos = tokenizer.eos_token_id
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    if eos is None or ids[-1] == eos:
        return
    start = special.index(0)
    prefix = tokenizer.convert_ids_to_tokens(ids[:start])
    trailing = [token for token, is_special in zip(ids[start:], special[start:], strict=True) if is_special]
    suffix = [*tokenizer.convert_ids_to_tokens(trailing), tokenizer.eos_token]
    # One template replaces the tokenizer's own: a second template after it would end the first token, not the text.
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*prefix, "$A", *suffix],
        pair=[*prefix, "$A", *suffix, *(f"{name}:1" for name in prefix), "$B:1", *(f"{name}:1" for name in suffix)],
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in {*prefix, *suffix}],
    )
