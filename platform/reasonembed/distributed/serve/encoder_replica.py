"""Replica of the deployment ``encoder``, which runs the model."""

from collections.abc import Sequence

import numpy as np

from reasonembed.distributed.serve.application_args import ServeArgs
from reasonembed.distributed.serve.prometheus_metrics import ServingMetrics
from reasonembed.serving.async_cache import AsyncCache
from reasonembed.serving.encoders import TEXT_ENCODERS, PromptKind, ServedModel, TextEncoder, add_prompts
from reasonembed.serving.event_loop import AsyncTokenizer
from reasonembed.serving.index_shards import load_index_artifact
from reasonembed.serving.request_batcher import RequestBatcher

STUCK_SECONDS = 120
LoadedEncoder = tuple[TextEncoder, AsyncTokenizer, RequestBatcher]


class EncoderReplica:
    """Runs the model of the index that a call names, for many requests at a time.

    Args:
        args: of the application.
        metrics: of the gateway, if the encoder runs in its process.
    """

    def __init__(self, args: ServeArgs, metrics: ServingMetrics | None = None) -> None:
        self._args = args
        self._metrics = metrics or ServingMetrics()
        self._models: AsyncCache[str, ServedModel] = AsyncCache(
            lambda uri: ServedModel.from_index(load_index_artifact(uri))
        )
        self._encoders: AsyncCache[ServedModel, LoadedEncoder] = AsyncCache(self._load)
        self._batchers: list[RequestBatcher] = []

    async def encode(
        self, uri: str, texts: Sequence[str], kind: PromptKind, instruction: str
    ) -> tuple[np.ndarray, int]:
        """Encodes texts; see ``serving.service.EncodeTexts``.

        Args:
            uri: of the index whose model is used.
            texts: without prompts.
            kind: of the prompt that precedes each text.
            instruction: for queries.

        Returns:
            (texts, dim) unit vectors, and the number of tokens.

        Raises:
            RequestRefused: the texts have more tokens than a request may have.
        """
        model = await self._models.get(uri)
        # Two indexes with the same model share the encoder.
        encoder, tokenizer, batcher = await self._encoders.get(model)
        prompted = add_prompts(texts, kind, instruction, encoder, model.encode)
        ids = await tokenizer.tokenize(prompted, self._args.tokens)
        return await batcher.encode(ids), sum(map(len, ids))

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises an error.

        Raises:
            RuntimeError: the model has not finished a batch for two minutes.
        """
        busy = max((batcher.busy_seconds for batcher in self._batchers), default=0.0)
        if busy > STUCK_SECONDS:
            raise RuntimeError(f"the model has been encoding one batch for {busy:.0f} s")

    def _load(self, model: ServedModel) -> LoadedEncoder:
        encoder = TEXT_ENCODERS[self._args.engine](model, self._args, self._args.resources.device)
        batcher = RequestBatcher(encoder.encode, self._args.batch_tokens, self._metrics.observe_batch)
        self._batchers = [*self._batchers[-1:], batcher]
        return encoder, AsyncTokenizer(encoder.tokenize), batcher
