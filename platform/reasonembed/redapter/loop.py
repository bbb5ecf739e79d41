"""The training loop of one rank.

It knows no Ray: rows come from an iterator, progress and checkpoints leave by callbacks.
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
from reasonembed.errors import JobFailed
from reasonembed.ids import digest
from reasonembed.redapter.batch_plan import Example, Step, shares
from reasonembed.redapter.engines import TrainingEngine, create_engine
from reasonembed.redapter.engines.training_engine import check_layout, write_layout
from reasonembed.redapter.gather import gather, rank, total, world_size
from reasonembed.redapter.grad_cache import MicroBatches, backward_again, embed, tower
from reasonembed.redapter.held_out import evaluate_held_out
from reasonembed.redapter.model_card import MEASURE
from reasonembed.redapter.objective import Vectors, losses_of, step_loss


class Batches(Protocol):
    """What there is to train on."""

    @property
    def steps(self) -> Sequence[Step]: ...

    @property
    def dev(self) -> pa.Table:
        """Rows of ``schemas.TRAINING`` that were held out; may be none."""

    def examples(self, start: int) -> Iterable[list[Example]]:
        """This rank's examples of every step from ``start`` on."""


@dataclass
class State:
    """What a checkpoint must hold beside the weights and the optimiser. It is the same on all ranks; the data's cursor
    and every random number follow from the step."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Per step: loss, InfoNCE of queries and of rewrites, mean RI, learning rate."""
    intensity: list[tuple[int, str, float]] = field(default_factory=list)
    """(step, query id, RI), of all ranks."""
    dev: list[tuple[int, float]] = field(default_factory=list)
    """(step, nDCG@10 of the dev queries) at every checkpoint."""

    @property
    def is_best(self) -> bool:
        """No earlier checkpoint was better on the dev queries."""
        values = [value for _, value in self.dev]
        return not values or values[-1] == max(values)


class NonFiniteLoss(JobFailed):
    """The loss is not a finite number.

    Args:
        step: of training.
        query_ids: whose own losses are none.
    """

    def __init__(self, step: int, query_ids: Sequence[str]) -> None:
        self.step, self.query_ids = step, list(query_ids)
        named = ", ".join(self.query_ids[:3]) + (", ..." if len(self.query_ids) > 3 else "")
        super().__init__(f"step {step}: the loss of {len(self.query_ids)} queries is not a finite number ({named})")

    def __reduce__(self) -> tuple[type, tuple[int, list[str]]]:
        return type(self), (self.step, self.query_ids)


def train(
    model: Embedder,
    batches: Batches,
    settings: Train,
    encode: Encode,
    seed: int,
    resume_from: Path | None,
    on_step: Callable[[int, dict[str, float]], None],
    on_checkpoint: Callable[[TrainingEngine, State], None],
) -> tuple[TrainingEngine, State]:
    """Run (or go on with) the loop to its last step.

    Args:
        model: the embedder, with the base weights.
        batches: this rank's rows.
        settings: of training.
        encode: for the form of queries.
        seed: of dropout.
        resume_from: folder of a checkpoint, if there is one.
        on_step: called on every rank with the number of steps done and the step's figures.
        on_checkpoint: called on every rank every ``checkpoint_steps`` steps and after the last.

    Raises:
        NonFiniteLoss: the loss is not a finite number.
        UserError: the checkpoint is of another number of workers.
    """
    engine = create_engine(model, settings)
    state = _resume(engine, resume_from) if resume_from else State()
    runner = _Runner(engine, settings, encode, seed, len(batches.steps))
    for examples in batches.examples(state.step):
        step = batches.steps[state.step]
        figures, intensity = runner.run(state.step, step, examples)
        state.intensity += [(state.step, *pair) for pair in zip(step.query_ids, intensity, strict=True)]
        state.history.append(figures)
        state.step += 1
        last = state.step == len(batches.steps)
        checkpoint = last or state.step % settings.checkpoint_steps == 0
        if checkpoint and batches.dev.num_rows:
            state.dev.append((state.step, evaluate_held_out(engine, batches.dev, settings, encode)))
            figures[MEASURE] = state.dev[-1][1]
        on_step(state.step, figures)
        if checkpoint:
            on_checkpoint(engine, state)
    return engine, state


def save(engine: TrainingEngine, state: State, folder: Path, settings: Train) -> None:
    """This rank's part of a checkpoint that ``train`` can go on from."""
    engine.save(folder, asdict(state))
    write_layout(folder, settings)


def learning_rate(settings: Train, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero at the last step; a function of the step, so that resume is exact."""
    warmup = settings.warmup_fraction * steps
    rising = (step + 1) / warmup if warmup >= 1 else 1.0
    falling = (steps - step) / max(1.0, steps - warmup)
    return settings.learning_rate * min(1.0, rising, falling)


def _resume(engine: TrainingEngine, folder: Path) -> State:
    check_layout(folder)
    return State(**engine.load(folder))


class _Runner:
    """One step after the other, on one rank."""

    def __init__(self, engine: TrainingEngine, settings: Train, encode: Encode, seed: int, steps: int) -> None:
        self._engine, self._settings, self._encode, self._seed, self._steps = engine, settings, encode, seed, steps
        self._device = next(engine.model.parameters()).device
        # A training that never weights by intensity, as a warm-up, has no use for q'; every intensity is 1 then.
        self._asks_rewrites = settings.ri_start_step < steps or settings.rewrite_distillation_weight > 0

    def run(self, number: int, step: Step, examples: list[Example]) -> tuple[dict[str, float], list[float]]:
        """Move the weights; returns the step's figures and the intensity of each of its queries."""
        settings, engine = self._settings, self._engine
        rate = learning_rate(settings, number, self._steps)
        towers = self._towers(number, examples)
        counts = shares(len(step.query_ids), world_size())
        with torch.set_grad_enabled(not settings.grad_cache):
            queries, passages = (embed(engine, towers[kind], settings.grad_cache) for kind in ("queries", "passages"))
        with torch.no_grad():
            rewrites = queries.detach()
            if self._asks_rewrites:
                rewrites = embed(engine, towers["rewrites"], settings.grad_cache)
        if settings.grad_cache:
            queries.requires_grad_()
            passages.requires_grad_()
        losses = losses_of(Vectors(queries, rewrites, passages), examples, counts, rank(), settings)
        loss, intensity = step_loss(losses, number, len(step.query_ids), settings)
        figures = self._figures(loss, losses.query, losses.rewrite, intensity, len(step.query_ids))
        if not math.isfinite(figures["loss"]):
            finite = gather(torch.isfinite(losses.objective.detach() + intensity).float(), counts).tolist()
            broken = [query_id for query_id, ok in zip(step.query_ids, finite, strict=True) if not ok]
            raise NonFiniteLoss(number, broken or step.query_ids)  # of all, where only their sum is too large
        if settings.grad_cache:
            # To the vectors first, of all ranks; then through the model, a pass at a time.
            loss.backward()  # type: ignore[no-untyped-call]
            assert queries.grad is not None
            assert passages.grad is not None
            backward_again(engine, towers["queries"], queries.grad)
            backward_again(engine, towers["passages"], passages.grad)
        else:
            engine.backward(loss)
        engine.step(rate)
        return figures | {"learning_rate": rate}, gather(intensity, counts).tolist()

    def _towers(self, number: int, examples: list[Example]) -> dict[str, MicroBatches]:
        model, instruct = self._engine.model, self._encode.instruct
        asked, told = model.prompt("query"), model.prompt("document")
        texts = {
            "queries": [query_text(e.query, e.prompt, instruct, asked) for e in examples],
            "passages": [told + text for e in examples for text in e.passages],
        }
        if self._asks_rewrites:
            texts["rewrites"] = [query_text(e.reasoning_query, e.prompt, instruct, asked) for e in examples]
        settings = self._settings
        return {
            name: tower(
                self._engine.model.tokenize(of_kind, settings.max_tokens),
                settings.batch_tokens,
                int(digest(str(self._seed), str(number), str(rank()), name, length=12), 16),
                # ZeRO-2 exchanges gradients with every backward pass, ZeRO-3 weights with every forward pass.
                same_on_all_ranks=settings.zero_stage >= 2,
                device=self._device,
            )
            for name, of_kind in texts.items()
        }

    def _figures(
        self, loss: torch.Tensor, query: torch.Tensor, rewrite: torch.Tensor, intensity: torch.Tensor, batch_size: int
    ) -> dict[str, float]:
        sums = total(torch.stack([loss.detach(), query.sum(), rewrite.sum(), intensity.sum()])).tolist()
        return {
            "loss": sums[0],
            "infonce": sums[1] / batch_size,
            "infonce_rewrite": sums[2] / batch_size,
            "reasoning_intensity": sums[3] / batch_size,
        }
