"""Prometheus metrics of the endpoint, exported by Ray (which puts ``ray_`` before their names)."""

from collections.abc import Sequence

from ray.serve.metrics import Counter, Gauge, Histogram

from reasonembed.serving.active_index import IndexVersion
from reasonembed.serving.middleware import RequestRecord
from reasonembed.serving.request_batcher import EncodedBatch

# Upper bounds of the histograms' buckets.
SECONDS_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
TEXTS_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
TOKENS_BUCKETS = [16, 64, 256, 1024, 4096, 16_384, 65_536]
PREFIX = "reasonembed_"


class ServingMetrics:
    """The metrics of one replica."""

    def __init__(self) -> None:
        self._request_seconds = _histogram(
            "request_seconds",
            "Seconds from the first byte of a request to its response.",
            SECONDS_BUCKETS,
            "path",
            "status",
        )
        self._refused_requests = Counter(
            f"{PREFIX}refused_requests", description="Requests with an error, by its code.", tag_keys=("code",)
        )
        self._stage_seconds = _histogram("stage_seconds", "Seconds of a request's stage.", SECONDS_BUCKETS, "stage")
        self._batch_seconds = _histogram("batch_seconds", "Seconds of the model for one batch.", SECONDS_BUCKETS)
        self._batch_texts = _histogram("batch_texts", "Texts of one batch.", TEXTS_BUCKETS)
        self._batch_tokens = _histogram("batch_tokens", "Tokens of one batch.", TOKENS_BUCKETS)
        self._tokens = Counter(f"{PREFIX}tokens", description="Tokens encoded.")
        self._waiting_texts = Gauge(
            f"{PREFIX}waiting_texts", description="Texts of one gateway whose vectors are not ready yet."
        )
        self._retries = Counter(f"{PREFIX}retries", description="Calls repeated because a replica was lost.")
        self._live = Gauge(
            f"{PREFIX}live", description="1 for the index and model that answer.", tag_keys=("index", "model")
        )

    def observe_request(self, record: RequestRecord) -> None:
        """Records a request that has ended."""
        # Not the path of the request: each label value is a time series of its own, and a client could make any number.
        self._request_seconds.observe(record.seconds, tags={"path": record.route, "status": str(record.status)})
        if record.code:
            self._refused_requests.inc(tags={"code": record.code})

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Records the duration of a request's stage."""
        self._stage_seconds.observe(seconds, tags={"stage": stage})

    def observe_batch(self, batch: EncodedBatch) -> None:
        """Records a batch that the model has encoded."""
        self._batch_seconds.observe(batch.seconds)
        self._batch_texts.observe(batch.texts)
        self._batch_tokens.observe(batch.tokens)
        self._tokens.inc(batch.tokens)

    def count_retry(self) -> None:
        """Counts a call that is repeated because a replica was lost."""
        self._retries.inc()

    def report_state(self, version: IndexVersion, waiting_texts: int) -> None:
        """Sets the gauges. Ray exports a gauge once per call, so this must be called every few seconds.

        Args:
            version: that answers requests.
            waiting_texts: texts whose vectors are not ready yet.
        """
        self._live.set(1, tags={"index": version.id, "model": version.model.name})
        self._waiting_texts.set(waiting_texts)


def _histogram(name: str, description: str, buckets: Sequence[float], *tags: str) -> Histogram:
    return Histogram(PREFIX + name, description=description, boundaries=list(buckets), tag_keys=tags)
