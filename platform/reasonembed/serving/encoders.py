"""The model of an index as the endpoint runs it: with transformers, or with vLLM's pooling runner."""

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
    """A model, and how the documents of its index were encoded."""

    place: str
    mark: str
    """Changes when the weights do."""
    encode: Encode

    @classmethod
    def of(cls, index: Artifact) -> "ServedModel":
        source = index.record["inputs"]["model"]
        mark = source["fingerprint"] if isinstance(source, dict) else source
        config = index.record["config"]
        return cls(str(config["model"]).rstrip("/"), str(mark), Encode.model_validate(config["encode"]))

    @property
    def name(self) -> str:
        """For people: the folder of a model trained here, with a part of its mark, or a hub id."""
        place = self.place.removeprefix("package:")
        is_folder = place.startswith(("/", "s3://", ".")) or place.count("/") > 1
        return f"{place.rsplit('/', 1)[-1]}-{self.mark[:8]}" if is_folder else place


Prompt = Literal["none", "query", "document"]
"""``none``: texts are encoded as they are."""


class TextEncoder(Protocol):
    dimension: int

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids, cut where the documents of the index were cut."""

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """(texts, dim) float32 unit vectors."""

    def prompt(self, kind: Literal["query", "document"]) -> str:
        """What the model's folder wants before such a text."""


class TransformersEncoder:
    def __init__(self, model: ServedModel, settings: Serve, device: str) -> None:
        self._settings = model.encode
        self._embedder = Embedder.load(model.place, model.encode, device)
        self._batch_tokens = settings.batch_tokens
        self.dimension = self._embedder.dimension

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._embedder.tokenize(texts, self._settings.max_tokens)

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        return self._embedder.encode_ids(ids, self._batch_tokens)

    def prompt(self, kind: Literal["query", "document"]) -> str:
        return self._embedder.prompt(kind)


# An embedder keeps no keys and values between requests; vLLM wants room for those of one batch.
CPU: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "block_size": 32}


class VllmEncoder:
    """Needs a place that vLLM loads: a folder or a hub id; of ``s3://`` a copy is made."""

    def __init__(self, model: ServedModel, settings: Serve, device: str) -> None:
        from vllm import LLM

        # The tokenizer and the prompts are read as everywhere else, so that vLLM gets the very tokens.
        self._reader = Embedder.load(model.place, model.encode)
        self._settings = model.encode
        s3 = storage.is_s3(model.place)
        with storage.local_copy(model.place) if s3 else nullcontext(local_folder(model.place)) as folder:
            self._llm = LLM(
                model=str(folder),
                runner="pooling",
                convert="embed",
                dtype="auto" if device == "cuda" else "float32",
                max_model_len=min(model.encode.max_tokens, self._reader.context_length),
                trust_remote_code=model.encode.trust_remote_code,
                **({"gpu_memory_utilization": settings.gpu_memory} if device == "cuda" else CPU),
            )
        self.dimension = self._reader.dimension

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._reader.tokenize(texts, self._settings.max_tokens)

    def encode(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        from vllm.inputs import TokensPrompt

        answers = self._llm.embed([TokensPrompt(prompt_token_ids=list(row)) for row in ids], use_tqdm=False)
        return np.array([answer.outputs.embedding for answer in answers], np.float32)

    def prompt(self, kind: Literal["query", "document"]) -> str:
        return self._reader.prompt(kind)


ENGINES: dict[str, Callable[[ServedModel, Serve, str], TextEncoder]] = {
    "transformers": TransformersEncoder,
    "vllm": VllmEncoder,
}


def prompted(texts: Sequence[str], prompt: Prompt, instruction: str, encoder: TextEncoder, encode: Encode) -> list[str]:
    """Texts as the model reads them: queries as evaluation asks them, documents as the index holds them."""
    if prompt == "none":
        return list(texts)
    if prompt == "query":
        return [query_text(text, instruction, encode.instruct, encoder.prompt("query")) for text in texts]
    return [encoder.prompt("document") + text for text in texts]
