"""Text encoders of the endpoint: the model of an index, run by transformers or by vLLM's pooling runner."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from reasonembed import storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Encode, Serve
from reasonembed.embedder.model import Embedder
from reasonembed.embedder.model_source import local_folder
from reasonembed.embedder.prompts import query_text


@dataclass(frozen=True)
class ServedModel:
    """The model of an index, and the settings with which the documents of the index were encoded."""

    source: str
    """A folder, an ``s3://`` URI, a hub id or ``package:NAME``."""
    fingerprint: str
    """Changes when the weights change."""
    encode: Encode

    @classmethod
    def from_index(cls, index: Artifact) -> "ServedModel":
        """Returns the model that an index artifact records."""
        model_input = index.record["inputs"]["model"]
        fingerprint = model_input["fingerprint"] if isinstance(model_input, dict) else model_input
        config = index.record["config"]
        return cls(str(config["model"]).rstrip("/"), str(fingerprint), Encode.model_validate(config["encode"]))

    @property
    def name(self) -> str:
        """The name in responses: the hub id; for a folder its last part and the start of the fingerprint."""
        source = self.source.removeprefix("package:")
        is_folder = source.startswith(("/", "s3://", ".")) or source.count("/") > 1
        return f"{source.rsplit('/', 1)[-1]}-{self.fingerprint[:8]}" if is_folder else source


PromptKind = Literal["none", "query", "document"]
"""Which prompt of the model precedes a text; ``none``: texts are encoded as they are."""


class TextEncoder(Protocol):
    """A model that turns texts into unit vectors."""

    dimension: int
    """Length of a vector."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns token ids, cut at the same length as the documents of the index."""

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns (texts, dim) float32 unit vectors."""

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """Returns the prompt that the model's folder defines for such texts; empty without one."""


class TransformersEncoder:
    """Runs the model with transformers.

    Args:
        model: to load.
        settings: the section ``serve``.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, model: ServedModel, settings: Serve, device: str) -> None:
        self._max_tokens = model.encode.max_tokens
        self._embedder = Embedder.load(model.source, model.encode, device)
        self._batch_tokens = settings.batch_tokens
        self.dimension = self._embedder.dimension

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns token ids, cut at the same length as the documents of the index."""
        return self._embedder.tokenize(texts, self._max_tokens)

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns (texts, dim) float32 unit vectors."""
        return self._embedder.encode_ids(ids, self._batch_tokens)

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """Returns the prompt that the model's folder defines for such texts; empty without one."""
        return self._embedder.prompt(kind)


# An embedder needs no keys and values from earlier requests, only the memory for those of one batch.
CPU_OPTIONS: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "block_size": 32}


class VllmEncoder:
    """Runs the model with vLLM, which loads a folder or a hub id; a model on S3 is copied to this machine first.

    Args:
        model: to load.
        settings: the section ``serve``.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, model: ServedModel, settings: Serve, device: str) -> None:
        from vllm import LLM

        # Tokenizer and prompts are read as in the other encoder, so that vLLM gets exactly the same tokens.
        self._embedder = Embedder.load(model.source, model.encode)
        self._max_tokens = model.encode.max_tokens
        on_s3 = storage.is_s3(model.source)
        with storage.local_copy(model.source) if on_s3 else nullcontext(local_folder(model.source)) as folder:
            self._llm = LLM(
                model=str(folder),
                runner="pooling",
                convert="embed",
                dtype="auto" if device == "cuda" else "float32",
                max_model_len=min(self._max_tokens, self._embedder.context_length),
                trust_remote_code=model.encode.trust_remote_code,
                **({"gpu_memory_utilization": settings.gpu_memory} if device == "cuda" else CPU_OPTIONS),
            )
        self.dimension = self._embedder.dimension

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns token ids, cut at the same length as the documents of the index."""
        return self._embedder.tokenize(texts, self._max_tokens)

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns (texts, dim) float32 unit vectors."""
        from vllm.inputs import TokensPrompt

        outputs = self._llm.embed([TokensPrompt(prompt_token_ids=list(row)) for row in ids], use_tqdm=False)
        return np.array([output.outputs.embedding for output in outputs], np.float32)

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """Returns the prompt that the model's folder defines for such texts; empty without one."""
        return self._embedder.prompt(kind)


TEXT_ENCODERS: dict[str, Callable[[ServedModel, Serve, str], TextEncoder]] = {
    "transformers": TransformersEncoder,
    "vllm": VllmEncoder,
}
"""By ``serve.engine``."""


def add_prompts(
    texts: Sequence[str], kind: PromptKind, instruction: str, encoder: TextEncoder, settings: Encode
) -> list[str]:
    """Returns texts as the model reads them: queries as in the evaluation, documents as in the index.

    Args:
        texts: without prompts.
        kind: of the texts.
        instruction: of the request, for queries.
        encoder: whose prompts are used.
        settings: with which the documents of the index were encoded.
    """
    if kind == "none":
        return list(texts)
    if kind == "query":
        return [query_text(text, instruction, settings.instruct, encoder.prompt("query")) for text in texts]
    return [encoder.prompt("document") + text for text in texts]
