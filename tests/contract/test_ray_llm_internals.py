"""What ``reasonembed.distributed.llm.ray_llm_internals`` relies on in ``ray.data.llm``, checked for the pinned version.

The processors are built and applied to a dataset that only records the calls, so that neither Ray nor vLLM starts.
"""

import asyncio
import inspect
import uuid
from importlib.metadata import requires, version
from types import SimpleNamespace

import pytest
import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig
from ray.llm._internal.batch.processor import vllm_engine_proc
from ray.llm._internal.batch.processor.base import Processor
from ray.llm._internal.batch.stages.base import StatefulStageUDF
from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStage, vLLMEngineStageUDF

from reasonembed.config import Resources
from reasonembed.distributed.llm.ray_llm_internals import (
    DATA_COLUMN,
    ENGINE_STAGE,
    ERROR_COLUMN,
    label_placement_groups,
    limit_restarts,
    own_columns,
    replace_postprocess,
)

PIN = "ray[data,default,serve,train]==2.60.0"


class RecordedDataset:
    """Records the steps that a processor adds to a dataset."""

    def __init__(self):
        self.maps = []
        self.batch_maps = []

    def map(self, function, **options):
        self.maps.append((function, options))
        return self

    def map_batches_internal(self, function, **options):
        self.batch_maps.append((function, options))
        return self


@pytest.fixture
def make_processor(tiny_llm, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **options: None)
    telemetry = SimpleNamespace(push_telemetry_report=lambda report: None)
    monkeypatch.setattr(vllm_engine_proc, "get_or_create_telemetry_agent", lambda: telemetry)

    def make(tensor_parallel=1):
        config = vLLMEngineProcessorConfig(
            model_source=str(tiny_llm),
            engine_kwargs={"tensor_parallel_size": tensor_parallel},
            concurrency=(1, 2),
            batch_size=3,
            should_continue_on_error=True,
            placement_group_config={"bundle_per_worker": {"CPU": 1.0}},
            tokenize_stage=False,
            detokenize_stage=False,
        )
        return build_processor(
            config,
            preprocess=lambda row: {"messages": [row["text"]], ERROR_COLUMN: row["error"]},
            postprocess=lambda row: {"public": True},
            preprocess_map_kwargs={"num_cpus": 0.1},
            postprocess_map_kwargs={"num_cpus": 0.1},
        )

    yield make
    assert not ray.is_initialized()


def test_the_pin_is_the_version_that_was_checked():
    assert PIN in requires("reasonembed")
    assert PIN.endswith(f"=={version('ray')}")


def test_a_processor_holds_the_columns_of_a_row_in_one_column(make_processor):
    processor = make_processor()
    assert Processor.DATA_COLUMN == DATA_COLUMN
    row = processor.preprocess({"text": "a", "error": ""})
    assert own_columns(row) == {"text": "a", "error": "", "messages": ["a"], ERROR_COLUMN: ""}


def test_the_public_postprocess_does_not_see_rows_in_which_the_engine_failed(make_processor):
    """Otherwise ``replace_postprocess`` is not needed any more."""
    processor = make_processor()
    assert processor.postprocess({DATA_COLUMN: {ERROR_COLUMN: ""}})["public"] is True
    assert processor.postprocess({DATA_COLUMN: {ERROR_COLUMN: "failed"}}) == {ERROR_COLUMN: "failed"}


def test_a_processor_uses_the_function_that_replaced_postprocess(make_processor):
    processor, dataset = make_processor(), RecordedDataset()

    def function(row):
        return {"reason": own_columns(row)[ERROR_COLUMN]}

    replace_postprocess(processor, function)
    assert processor(dataset) is dataset
    assert dataset.maps[-1] == (function, {"num_cpus": 0.1})
    assert len(dataset.maps) == 2  # before and after the stages
    assert function({DATA_COLUMN: {ERROR_COLUMN: "failed"}}) == {"reason": "failed"}


def test_a_stage_passes_rows_with_an_error_unchanged():
    class Capitals(StatefulStageUDF):
        async def udf(self, rows):
            for row in rows:
                yield {self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN], "word": row["word"].upper()}

    async def run():
        stage = Capitals(DATA_COLUMN, ["word"])
        rows = [{"word": "a", ERROR_COLUMN: ""}, {ERROR_COLUMN: "failed"}, {"word": "c", ERROR_COLUMN: ""}]
        [batch] = [batch async for batch in stage({DATA_COLUMN: rows})]
        return batch[DATA_COLUMN]

    assert asyncio.run(run()) == [
        {"word": "A", ERROR_COLUMN: ""},
        {ERROR_COLUMN: "failed"},
        {"word": "C", ERROR_COLUMN: ""},
    ]


def test_the_engine_writes_its_error_into_the_column():
    class FailingEngine:
        async def generate_async(self, row):
            raise ValueError("longer than the maximum model length of 64")

        def shutdown(self):
            pass

    stage = object.__new__(vLLMEngineStageUDF)
    stage.should_continue_on_error = True
    stage.llm = FailingEngine()
    row = {stage.IDX_IN_BATCH_COLUMN: 4, "prompt": "a"}
    output = asyncio.run(stage._generate_with_error_handling(row, uuid.uuid4()))
    assert output[ERROR_COLUMN] == "ValueError: longer than the maximum model length of 64"


def test_the_placement_groups_of_the_engines_can_be_replaced(make_processor, monkeypatch):
    processor, dataset = make_processor(tensor_parallel=2), RecordedDataset()
    stage = processor.get_stage_by_name(ENGINE_STAGE)
    assert isinstance(stage, vLLMEngineStage)
    assert callable(stage.map_batches_kwargs["ray_remote_args_fn"])

    label_placement_groups(processor, Resources(cpus=2, gpus=1, pool="gpu-spot"), 2)
    processor(dataset)
    [options] = [options for function, options in dataset.batch_maps if function is stage.fn]

    signature, calls = inspect.signature(ray.util.placement_group), []
    monkeypatch.setattr(
        ray.util, "placement_group", lambda *args, **kwargs: calls.append(signature.bind(*args, **kwargs).arguments)
    )
    strategy = options["ray_remote_args_fn"]()["scheduling_strategy"]
    assert strategy.placement_group_capture_child_tasks
    assert calls == [
        {
            "bundles": [{"CPU": 2, "GPU": 1}] * 2,
            "bundle_label_selector": [{"ray-subcluster": "gpu-spot"}] * 2,
        }
    ]


def test_the_restarts_of_the_engines_can_be_limited(make_processor):
    processor, dataset = make_processor(), RecordedDataset()
    stage = processor.get_stage_by_name(ENGINE_STAGE)
    assert "max_restarts" not in stage.map_batches_kwargs  # Ray Data restarts them without end
    limit_restarts(processor, 4)
    processor(dataset)
    [options] = [options for function, options in dataset.batch_maps if function is stage.fn]
    assert options["max_restarts"] == 4


def test_one_gpu_needs_no_placement_group(make_processor):
    stage = make_processor().get_stage_by_name(ENGINE_STAGE)
    assert "ray_remote_args_fn" not in stage.map_batches_kwargs
