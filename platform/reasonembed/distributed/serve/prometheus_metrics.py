"""What the endpoint tells Prometheus, through Ray's own metrics (names get the prefix ``ray_``)."""

from collections.abc import Sequence

from ray.serve.metrics import Counter, Gauge, Histogram

from reasonembed.serving.active_index import Version
from reasonembed.serving.middleware import RequestRecord
from reasonembed.serving.request_batcher import Batch

SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
TEXTS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
TOKENS = [16, 64, 256, 1024, 4096, 16_384, 65_536]
PREFIX = "reasonembed_"


class ServingMetrics:
    def __init__(self) -> None:
        self._requests = self._histogram(
            "request_seconds", "From the first byte to the answer.", SECONDS, "path", "status"
        )
        self._refusals = Counter(
            f"{PREFIX}refused_requests", description="Requests with an error, by its code.", tag_keys=("code",)
        )
        self._stages = self._histogram("stage_seconds", "Of a request, by stage.", SECONDS, "stage")
        self._batch_seconds = self._histogram("batch_seconds", "Of the model, for one batch.", SECONDS)
        self._batch_texts = self._histogram("batch_texts", "Texts that were encoded together.", TEXTS)
        self._batch_tokens = self._histogram("batch_tokens", "Tokens that were encoded together.", TOKENS)
        self._tokens = Counter(f"{PREFIX}tokens", description="Tokens encoded.")
        self._waiting = Gauge(f"{PREFIX}waiting_texts", description="Texts without their vectors yet, of one gateway.")
        self._retries = Counter(f"{PREFIX}retries", description="Calls repeated because a replica had gone.")
        self._live = Gauge(f"{PREFIX}live", description="1 for the version that answers.", tag_keys=("index", "model"))

    def request(self, seen: RequestRecord) -> None:
        # A path that nobody serves may be anything, and would be a new series each time.
        path = seen.path if seen.status != 404 else "unknown"
        self._requests.observe(seen.seconds, tags={"path": path, "status": str(seen.status)})
        if seen.code:
            self._refusals.inc(tags={"code": seen.code})

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.observe(seconds, tags={"stage": stage})

    def batch(self, batch: Batch) -> None:
        self._batch_seconds.observe(batch.seconds)
        self._batch_texts.observe(batch.texts)
        self._batch_tokens.observe(batch.tokens)
        self._tokens.inc(batch.tokens)

    def retried(self) -> None:
        self._retries.inc()

    def state(self, version: Version, waiting: int) -> None:
        """To be told every few seconds: Ray shows a gauge once for each time it was set."""
        self._live.set(1, tags={"index": version.id, "model": version.model.name})
        self._waiting.set(waiting)

    @staticmethod
    def _histogram(name: str, description: str, boundaries: Sequence[float], *tags: str) -> Histogram:
        return Histogram(PREFIX + name, description=description, boundaries=list(boundaries), tag_keys=tags)
