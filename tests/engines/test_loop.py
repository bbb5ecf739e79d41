"""The training loop on real engines: the result is the same on one rank or two, in any ZeRO stage, resumed or not."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from factories import MemoryBatches, training_rows
from processes import free_port

from reasonembed.config import Encode, Train
from reasonembed.errors import UserError
from reasonembed.redapter.nonfinite import NonFiniteGradient, NonFiniteLoss

EVERY_TERM = {
    "positives": 2,
    "multi_positive_weight": 0.3,
    "soft_target_weight": 0.5,
    "soft_target_from": "grade",
    "rewrite_distillation_weight": 0.2,
    "matryoshka_dims": [8, 16],
    "negatives": "stratified",
}
LORA = {"lora_rank": 4, "lora_targets": ["query", "value"], "lora_dropout": 0.2, "gradient_checkpointing": True}
GRAD_CACHE = {"grad_cache": True, "batch_tokens": 64}
RUNS = {
    "torch": {"engine": "torch", "zero_stage": 0},
    "torch, grad cache": {"engine": "torch", "zero_stage": 0, **GRAD_CACHE},
    "torch, every term": {"engine": "torch", "zero_stage": 0, **EVERY_TERM},
    "zero 0": {"zero_stage": 0},
    "zero 1": {"zero_stage": 1},
    "zero 2": {"zero_stage": 2},
    "zero 3": {"zero_stage": 3},
    "zero 1, grad cache": {"zero_stage": 1, **GRAD_CACHE},
    "zero 2, grad cache, every term": {"zero_stage": 2, **GRAD_CACHE, **EVERY_TERM},
    "zero 3, grad cache": {"zero_stage": 3, **GRAD_CACHE},
    "zero 1, bfloat16": {"zero_stage": 1, "dtype": "bfloat16"},
    "zero 3, bfloat16": {"zero_stage": 3, "dtype": "bfloat16"},
    "zero 1, lora": {"zero_stage": 1, **LORA},
    "zero 1, lora, grad cache": {"zero_stage": 1, **LORA, **GRAD_CACHE},
}
POISONED = {
    "torch": {},
    "torch, grad cache": {},
    "zero 0": {},
    "zero 0, bfloat16": {"dtype": "bfloat16"},
    "zero 1": {},
    "zero 1, bfloat16": {},
    "zero 1, lora": {},
    "zero 2": {},
    "zero 2, bfloat16": {"dtype": "bfloat16"},
    "zero 3": {},
    "zero 3, bfloat16": {},
    "zero 3, grad cache": {},
}
"""Runs whose second step has a gradient that is not finite, on one of two ranks."""
# Dropout and rounding in bfloat16 depend on the number of ranks.
SAME_ON_ONE_RANK = [name for name in RUNS if "lora" not in name and "bfloat" not in name]


def settings_of(name, workers, **changes):
    values = {
        "steps": 4,
        "batch_size": 6,
        "group_size": 4,
        "max_tokens": 32,
        "learning_rate": 1e-3,
        "temperature": 0.1,
        "ri_start_step": 1,
        "checkpoint_steps": 2,
        "warmup_fraction": 0.3,
        "dev_queries": 4,
    }
    return Train(**values | RUNS[name] | {"workers": workers} | changes)


def run(model, settings, folder=None, resume_from=None):
    """Returns history, held-out scores, intensities and sums of the weights; writes all checkpoints to ``folder``."""
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop

    rows = training_rows()

    def on_checkpoint(engine, state):
        if folder is not None:
            checkpoint = folder / str(state.step)
            checkpoint.mkdir(parents=True, exist_ok=True)
            training_loop.save_checkpoint(engine, state, checkpoint, settings)

    batches = MemoryBatches(rows[4:], settings, held_out=rows[:4])
    dtype = getattr(torch, settings.dtype)
    engine, state = training_loop.train(
        Embedder.load(str(model), dtype=dtype),
        batches,
        settings,
        Encode(),
        0,
        resume_from,
        lambda *_: None,
        on_checkpoint,
    )
    return {
        "history": state.history,
        "held_out": state.held_out,
        "intensity": state.intensity,
        "weights": weight_sums(engine),
    }


def weight_sums(engine):
    with engine.gathered_weights():
        return {n: p.detach().double().sum().item() for n, p in engine.model.named_parameters() if p.requires_grad}


def run_poisoned(model, settings):
    """Trains two steps, the second with a gradient that is not finite on rank 1; returns what all ranks observe."""
    from reasonembed.embedder.model import Embedder
    from reasonembed.redapter import training_loop

    engines, weights, finite = [], [], []
    forward = Embedder.forward

    def poisoned(self, **inputs):
        vectors = forward(self, **inputs)
        return vectors + torch.sqrt((vectors * 0).sum())  # adds 0; its gradient is not a number

    def on_step(step, figures):
        assert math.isfinite(figures["loss"])
        if dist.get_rank() == 1:
            Embedder.forward = poisoned

    def on_checkpoint(engine, state):
        engines.append(engine)
        weights.append(weight_sums(engine))
        finite.append(engine.weights_are_finite())

    batches = MemoryBatches(training_rows(), settings)
    embedder = Embedder.load(str(model), dtype=getattr(torch, settings.dtype))
    try:
        training_loop.train(embedder, batches, settings, Encode(), 0, None, on_step, on_checkpoint)
    except NonFiniteGradient as error:
        [engine], [before] = engines, weights
        unchanged = weight_sums(engine) == before
        if dist.get_rank() == 1:
            # Of ZeRO-3 every rank has a part of each weight.
            poison_weight(engine)
        return {
            "step": error.step,
            "queries": len(error.query_ids),
            "unchanged": unchanged,
            "finite": [*finite, engine.weights_are_finite()],
        }
    finally:
        Embedder.forward = forward
    return "the training went on"


def poison_weight(engine):
    """Makes this rank's copy, or with ZeRO-3 its part, of one weight infinite."""
    parameter = next(parameter for parameter in engine.model.parameters() if parameter.requires_grad)
    with torch.no_grad():
        getattr(parameter, "ds_tensor", parameter).view(-1)[0] = float("inf")


def run_rank(rank, world, port, model, folder):
    torch.set_num_threads(1)  # as in Ray's workers
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    results = {}
    for name in RUNS if world == 2 else SAME_ON_ONE_RANK:
        settings = settings_of(name, world)
        checkpoints = folder / f"{world}-{name}"
        results[name] = run(model, settings, checkpoints)
        if world == 2:
            results[f"{name}, resumed"] = run(model, settings, resume_from=checkpoints / "2")
        elif name in ("torch", "zero 0"):
            results[f"{name}, resumed from two ranks"] = run(model, settings, resume_from=folder / f"2-{name}" / "2")
    if world == 1:
        with pytest.raises(UserError, match="has 2 shards and cannot be loaded by 1 workers"):
            run(model, settings_of("zero 1", 1), resume_from=folder / "2-zero 1" / "2")
        with pytest.raises(
            NonFiniteLoss, match=r"step 1: the loss of 6 queries is not a finite number \(water-"
        ) as caught:
            run(model, settings_of("torch", 1, learning_rate=1e30))
        assert len(caught.value.query_ids) == 6
    if world == 2:
        for name, changes in POISONED.items():
            settings = settings_of(
                name.replace(", bfloat16", "") if changes else name, 2, checkpoint_steps=1, **changes
            )
            outcomes = [None, None]
            dist.all_gather_object(outcomes, run_poisoned(model, settings))
            results[f"{name}, poisoned"] = outcomes
    if rank == 0:
        (folder / f"{world}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tiny_model, tmp_path_factory):
    """The results of all runs by name, by number of ranks."""
    folder = tmp_path_factory.mktemp("loop")
    for world in (2, 1):
        mp.spawn(run_rank, args=(world, free_port(), tiny_model, folder), nprocs=world)
    return {world: json.loads((folder / f"{world}.json").read_text()) for world in (1, 2)}


def losses(result):
    return [figures["loss"] for figures in result["history"]]


def assert_equal_results(one, other):
    assert losses(one) == pytest.approx(losses(other), abs=1e-5)
    assert one["weights"] == pytest.approx(other["weights"], abs=1e-3, rel=1e-5)
    assert [value for _, value in one["held_out"]] == pytest.approx([value for _, value in other["held_out"]], abs=1e-5)


def test_the_loss_falls_and_every_query_is_logged(results):
    for name, result in results[2].items():
        if "poisoned" in name:
            continue
        if "lora" not in name:  # with dropout the loss of a single step is random
            assert losses(result)[-1] < losses(result)[0], name
        assert [figures["learning_rate"] for figures in result["history"]][-1] < 1e-3
        assert len(result["intensity"]) == 4 * 6
        assert [step for step, _ in result["held_out"]] == [2, 4]


@pytest.mark.parametrize("name", SAME_ON_ONE_RANK)
def test_two_ranks_equal_one(results, name):
    assert_equal_results(results[1][name], results[2][name])


@pytest.mark.parametrize("name", ["zero 0", "zero 1", "zero 2", "zero 3"])
def test_every_zero_stage_equals_plain_torch(results, name):
    assert_equal_results(results[2][name], results[2]["torch"])


@pytest.mark.parametrize(
    ("cached", "direct"),
    [
        ("torch, grad cache", "torch"),
        ("zero 1, grad cache", "torch"),
        ("zero 2, grad cache, every term", "torch, every term"),
        ("zero 3, grad cache", "torch"),
    ],
)
def test_grad_cache_equals_direct(results, cached, direct):
    assert_equal_results(results[2][cached], results[2][direct])


@pytest.mark.parametrize("name", list(RUNS))
def test_resumed_equals_uninterrupted_to_the_last_bit(results, name):
    assert results[2][f"{name}, resumed"] == results[2][name]


@pytest.mark.parametrize("name", ["torch", "zero 0"])
def test_a_checkpoint_without_shards_can_be_resumed_by_another_number_of_ranks(results, name):
    assert_equal_results(results[1][f"{name}, resumed from two ranks"], results[2][name])


@pytest.mark.parametrize("name", list(POISONED))
def test_a_gradient_that_is_not_finite_ends_the_training_on_all_ranks_before_the_weights_change(results, name):
    expected = {"step": 1, "queries": 6, "unchanged": True, "finite": [True, False]}
    assert results[2][f"{name}, poisoned"] == [expected, expected]


WITHOUT_DEEPSPEED = """
import sys
sys.modules["deepspeed"] = None  # makes its import fail
sys.path.insert(0, "tests/engines")
import test_loop
from pathlib import Path
result = test_loop.run(Path(sys.argv[1]), test_loop.settings_of("torch", 1))
print(result["history"][-1]["loss"])
"""


def test_plain_torch_needs_no_deepspeed(results, tiny_model, repository):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DEEPSPEED, str(tiny_model)],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": "tests"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(losses(results[1]["torch"])[-1], abs=1e-5)
