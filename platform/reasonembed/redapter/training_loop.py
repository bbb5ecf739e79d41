"""The training loop of one rank.

It imports no Ray: rows come from an iterator, progress and checkpoints go to callbacks.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import torch

from reasonembed.config import Encode, Train
from reasonembed.embedder.model import Embedder
from reasonembed.embedder.prompts import query_text
from reasonembed.ids import digest
from reasonembed.redapter.batch_plan import Example, TrainingStep, rows_per_rank
from reasonembed.redapter.engines import TrainingEngine, create_engine
from reasonembed.redapter.engines.training_engine import (
    NonFiniteNorm,
    check_checkpoint_layout,
    write_checkpoint_layout,
)
from reasonembed.redapter.gather import gather, rank, sum_over_ranks, world_size
from reasonembed.redapter.grad_cache import MicroBatches, accumulate_gradients, micro_batches, representations
from reasonembed.redapter.held_out import evaluate_held_out
from reasonembed.redapter.model_card import HELD_OUT_METRIC
from reasonembed.redapter.nonfinite import NonFiniteGradient, NonFiniteLoss, NonFiniteWeights
from reasonembed.redapter.objective import Vectors, query_losses, step_loss, uses_rewrites


class BatchSource(Protocol):
    """The planned steps and their rows."""

    @property
    def steps(self) -> Sequence[TrainingStep]:
        """All steps of the training, in order."""

    @property
    def held_out(self) -> pa.Table:
        """The held-out rows, of ``schemas.TRAINING``; the table may be empty."""

    def examples(self, start: int) -> Iterable[list[Example]]:
        """Returns this rank's examples of every step from ``start`` on."""


@dataclass
class TrainingState:
    """The part of a checkpoint beside weights and optimiser state. It is the same on all ranks.

    The position in the data and all random numbers follow from the step.
    """

    step: int = 0
    """Number of finished steps."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Per step: loss, InfoNCE of queries and of rewrites, mean reasoning intensity, learning rate."""
    intensity: list[tuple[int, str, float]] = field(default_factory=list)
    """(step, query id, reasoning intensity), of all ranks."""
    held_out: list[tuple[int, float]] = field(default_factory=list)
    """(step, nDCG@10 of the held-out queries) at every checkpoint."""

    @property
    def is_best(self) -> bool:
        """Whether no earlier checkpoint was better on the held-out queries."""
        values = [value for _, value in self.held_out]
        return not values or values[-1] == max(values)


def train(
    model: Embedder,
    batches: BatchSource,
    settings: Train,
    encode: Encode,
    seed: int,
    resume_from: Path | None,
    on_step: Callable[[int, dict[str, float]], None],
    on_checkpoint: Callable[[TrainingEngine, TrainingState], None],
) -> tuple[TrainingEngine, TrainingState]:
    """Runs the training to its last step, from the start or from a checkpoint.

    Args:
        model: the embedder, with the base weights.
        batches: steps and rows of this rank.
        settings: of training.
        encode: form of the queries.
        seed: of dropout.
        resume_from: folder of a checkpoint, if there is one.
        on_step: called on every rank after every step, with the number of finished steps and the step's figures.
        on_checkpoint: called on every rank every ``checkpoint_steps`` steps and after the last step.

    Raises:
        NonFiniteLoss: the loss is not a finite number.
        NonFiniteGradient: the norm of the gradient is not a finite number.
        UserError: the checkpoint was written by another number of workers.
    """
    engine = create_engine(model, settings)
    state = _load_checkpoint(engine, resume_from) if resume_from else TrainingState()
    runner = _StepRunner(engine, settings, encode, seed, len(batches.steps))
    for examples in batches.examples(state.step):
        step = batches.steps[state.step]
        figures, intensity = runner.run(state.step, step, examples)
        state.intensity += [(state.step, *pair) for pair in zip(step.query_ids, intensity, strict=True)]
        state.history.append(figures)
        state.step += 1
        last = state.step == len(batches.steps)
        checkpoint = last or state.step % settings.checkpoint_steps == 0
        if checkpoint and batches.held_out.num_rows:
            state.held_out.append((state.step, evaluate_held_out(engine, batches.held_out, settings, encode)))
            figures[HELD_OUT_METRIC] = state.held_out[-1][1]
        on_step(state.step, figures)
        if checkpoint:
            on_checkpoint(engine, state)
    return engine, state


def save_checkpoint(engine: TrainingEngine, state: TrainingState, folder: Path, settings: Train) -> None:
    """Writes this rank's part of a checkpoint from which ``train`` can resume.

    Raises:
        NonFiniteWeights: a weight is not a finite number; nothing is written, on any rank.
    """
    if not engine.weights_are_finite():
        raise NonFiniteWeights(state.step)
    engine.save(folder, asdict(state))
    write_checkpoint_layout(folder, settings)


def learning_rate(settings: Train, step: int, steps: int) -> float:
    """Returns the learning rate of a step: linear warm-up, then linear decay to zero after the last step.

    It is a function of the step alone, so that a resumed training continues exactly.

    Args:
        settings: of training.
        step: number of the step, from 0.
        steps: of the whole training.
    """
    warmup = settings.warmup_fraction * steps
    rising = (step + 1) / warmup if warmup >= 1 else 1.0
    falling = (steps - step) / max(1.0, steps - warmup)
    return settings.learning_rate * min(1.0, rising, falling)


def _load_checkpoint(engine: TrainingEngine, folder: Path) -> TrainingState:
    check_checkpoint_layout(folder)
    return TrainingState(**engine.load(folder))


class _StepRunner:
    """Runs the steps of one rank."""

    def __init__(self, engine: TrainingEngine, settings: Train, encode: Encode, seed: int, steps: int) -> None:
        self._engine, self._settings, self._encode, self._seed, self._steps = engine, settings, encode, seed, steps
        self._device = next(engine.model.parameters()).device
        self._uses_rewrites = uses_rewrites(settings, steps)

    def run(self, number: int, step: TrainingStep, examples: list[Example]) -> tuple[dict[str, float], list[float]]:
        """Runs a step and updates the weights.

        Args:
            number: of the step, from 0.
            step: queries of all ranks.
            examples: of this rank.

        Returns:
            The step's figures, and the reasoning intensity of each query of all ranks.
        """
        settings, engine = self._settings, self._engine
        batches = self._micro_batches(number, examples)
        counts = rows_per_rank(len(step.query_ids), world_size())
        with torch.set_grad_enabled(not settings.grad_cache):
            queries = representations(engine, batches["queries"], settings.grad_cache)
            passages = representations(engine, batches["passages"], settings.grad_cache)
        with torch.no_grad():
            rewrites = queries.detach()
            if self._uses_rewrites:
                rewrites = representations(engine, batches["rewrites"], settings.grad_cache)
        if settings.grad_cache:
            queries.requires_grad_()
            passages.requires_grad_()
        losses = query_losses(Vectors(queries, rewrites, passages), examples, counts, rank(), settings)
        loss, intensity = step_loss(losses, number, len(step.query_ids), settings)
        figures = self._figures(loss, losses.query, losses.rewrite, intensity, len(step.query_ids))
        if not math.isfinite(figures["loss"]):
            finite = gather(torch.isfinite(losses.objective.detach() + intensity).float(), counts).tolist()
            query_ids = [query_id for query_id, is_finite in zip(step.query_ids, finite, strict=True) if not is_finite]
            raise NonFiniteLoss(number, query_ids or step.query_ids)  # all of them, if only their sum is not finite
        if settings.grad_cache:
            # First the gradients of the representations, over all ranks; then those of the weights, by micro-batch.
            loss.backward()  # type: ignore[no-untyped-call]
            assert queries.grad is not None
            assert passages.grad is not None
            accumulate_gradients(engine, batches["queries"], queries.grad)
            accumulate_gradients(engine, batches["passages"], passages.grad)
        else:
            engine.backward(loss)
        rate = learning_rate(settings, number, self._steps)
        try:
            engine.step(rate)
        except NonFiniteNorm as error:
            raise NonFiniteGradient(number, step.query_ids) from error
        return figures | {"learning_rate": rate}, gather(intensity, counts).tolist()

    def _micro_batches(self, number: int, examples: list[Example]) -> dict[str, MicroBatches]:
        """Returns the micro-batches of queries and passages, and of rewrites where they are used."""
        model, settings, instruct = self._engine.model, self._settings, self._encode.instruct
        query_prompt, document_prompt = model.prompt("query"), model.prompt("document")
        texts = {
            "queries": [query_text(e.query, e.prompt, instruct, query_prompt) for e in examples],
            "passages": [document_prompt + text for e in examples for text in e.passages],
        }
        if self._uses_rewrites:
            texts["rewrites"] = [query_text(e.reasoning_query, e.prompt, instruct, query_prompt) for e in examples]
        return {
            kind: micro_batches(
                model.tokenize(texts_of_kind, settings.max_tokens),
                settings.batch_tokens,
                int(digest(str(self._seed), str(number), str(rank()), kind, length=12), 16),
                # ZeRO-2 exchanges gradients with every backward pass, ZeRO-3 weights with every forward pass.
                same_number_on_all_ranks=settings.zero_stage >= 2,
                device=self._device,
            )
            for kind, texts_of_kind in texts.items()
        }

    def _figures(
        self, loss: torch.Tensor, query: torch.Tensor, rewrite: torch.Tensor, intensity: torch.Tensor, batch_size: int
    ) -> dict[str, float]:
        """Returns the loss and the means over all queries of the step."""
        sums = sum_over_ranks(torch.stack([loss.detach(), query.sum(), rewrite.sum(), intensity.sum()])).tolist()
        return {
            "loss": sums[0],
            "infonce": sums[1] / batch_size,
            "infonce_rewrite": sums[2] / batch_size,
            "reasoning_intensity": sums[3] / batch_size,
        }
