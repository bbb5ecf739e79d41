import pytest
from fake_endpoint import KEY, FakeEndpoint

from reasonembed.distributed.serve import prometheus_metrics
from reasonembed.distributed.serve.prometheus_metrics import ServingMetrics


class RecordedMetric:
    """A metric of Ray Serve that records its tags."""

    tags: list

    def __init__(self, name, **options):
        self.name = name

    def inc(self, value=1, tags=None):
        RecordedMetric.tags.append((self.name, tags))

    def observe(self, value, tags=None):
        RecordedMetric.tags.append((self.name, tags))


@pytest.fixture
def metrics(monkeypatch):
    RecordedMetric.tags = []
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(prometheus_metrics, kind, RecordedMetric)
    return ServingMetrics()


def test_paths_that_do_not_exist_are_one_label_whatever_their_status(metrics):
    endpoint = FakeEndpoint(keys={"ann": KEY}, requests_per_minute=3)
    with_key = {"authorization": f"Bearer {KEY}"}
    for number in range(5):
        endpoint.http.get(f"/v1/{number}")
        endpoint.http.get(f"/v1/{number}", headers=with_key)
        endpoint.http.get(f"/{number}")
    endpoint.http.get("/v1/models", headers=with_key)
    assert {record.status for record in endpoint.records} == {401, 404, 429}
    for record in endpoint.records:
        metrics.observe_request(record)
    paths = {tags["path"] for name, tags in RecordedMetric.tags if name.endswith("request_seconds")}
    assert paths == {"unknown", "/v1/models"}
