"""The training loop of one rank. It knows no Ray: progress and checkpoints leave through the two callbacks."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from reasonembed.config import Encode, Train
from reasonembed.embedder.model import Embedder
from reasonembed.embedder.prompts import query_text
from reasonembed.errors import JobFailed
from reasonembed.redapter.batches import BatchPlan, Example, examples_of, text_key
from reasonembed.redapter.engine import learning_rate, load_state, save_state, set_learning_rate, start_engine
from reasonembed.redapter.gather import gather, rank, total, world_size
from reasonembed.redapter.losses import infonce, reasoning_intensity, soft_target_divergence

# Passes over a step's passages, short ones first: less padding, for a little overhead each.
PASSAGE_CHUNKS = 4


@dataclass
class State:
    """What a checkpoint must hold beside the weights and the optimiser."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Per step: loss, InfoNCE of queries and of rewrites, mean RI, learning rate."""
    intensity: list[tuple[int, str, float]] = field(default_factory=list)
    """(step, query id, RI), of all ranks."""


@dataclass(frozen=True)
class Losses:
    """Per query of this rank, (q,) each; ``objective`` is what is weighted and summed."""

    objective: torch.Tensor
    query: torch.Tensor
    rewrite: torch.Tensor


def train(
    model: Embedder,
    table: pa.Table,
    settings: Train,
    encode: Encode,
    seed: int,
    resume_from: Path | None,
    on_step: Callable[[int, dict[str, float]], None],
    on_checkpoint: Callable[[Any, State], None],
) -> tuple[Any, State]:
    """Run (or go on with) the loop to its last step and return the DeepSpeed engine and the state.

    Args:
        model: the embedder, with the base weights.
        table: ``schemas.TRAINING``, the same on every rank.
        settings: of training.
        encode: for the form of queries.
        seed: of batches and passages.
        resume_from: folder of a checkpoint, if there is one.
        on_step: called on every rank with the number of steps done and the step's figures.
        on_checkpoint: called on every rank every ``checkpoint_steps`` steps, but not after the last.

    Raises:
        JobFailed: the loss is not a finite number; the queries of the step are named.
    """
    torch.manual_seed(seed)
    engine = start_engine(model, settings)
    state = State(**load_state(engine, resume_from)) if resume_from else State()
    plan = BatchPlan(table["task"].to_pylist(), settings.batch_size, settings.steps, seed)
    engine.train()
    per_rank = settings.batch_size // world_size()
    for step in range(state.step, settings.steps):
        rows = plan.batches[step]
        mine = rows[rank() * per_rank : (rank() + 1) * per_rank]
        examples = examples_of(table, mine, settings.group_size, seed, step)
        losses = _losses(engine, examples, settings, encode)
        intensity = reasoning_intensity(losses.query, losses.rewrite, settings.ri_clamp)
        weights = torch.full_like(intensity, 1 / settings.batch_size)
        if step >= settings.ri_start_step:
            weights = intensity / total(intensity.sum()).clamp(min=1e-9)
        loss = (weights * losses.objective).sum()
        figures = _figures(loss, losses, intensity, settings.batch_size)
        if figures["loss"] != figures["loss"] or abs(figures["loss"]) == float("inf"):
            names = ", ".join(table["query_id"].take(rows).to_pylist())
            raise JobFailed(f"step {step}: the loss is {figures['loss']}; queries of the step: {names}")
        figures["learning_rate"] = learning_rate(settings, step)
        set_learning_rate(engine, figures["learning_rate"])
        # DeepSpeed averages gradients over the ranks; the global loss is their sum.
        engine.backward(loss * world_size())
        engine.step()
        state.step = step + 1
        state.history.append(figures)
        values = gather(intensity).tolist()
        ids = table["query_id"].take(rows).to_pylist()
        state.intensity += [(step, query_id, value) for query_id, value in zip(ids, values, strict=True)]
        on_step(state.step, figures)
        if state.step % settings.checkpoint_steps == 0 and state.step < settings.steps:
            on_checkpoint(engine, state)
    return engine, state


def save(engine: Any, state: State, folder: Path) -> None:
    """This rank's part of a checkpoint that ``train`` can go on from."""
    save_state(engine, folder, asdict(state))


def _losses(engine: Any, examples: list[Example], settings: Train, encode: Encode) -> Losses:
    model: Embedder = engine.module

    def embed(texts: list[str], chunks: int = 1) -> torch.Tensor:
        return embed_by_length(engine, model.tokenize(texts, settings.max_tokens), chunks)

    queries = embed([query_text(e.query, e.prompt, encode.instruct) for e in examples])
    own = embed([text for e in examples for text in e.passages], PASSAGE_CHUNKS)
    with torch.no_grad():
        rewrites = embed([query_text(e.reasoning_query, e.prompt, encode.instruct) for e in examples])
    passages = gather(own)
    first = rank() * len(own)
    positives = torch.arange(len(examples), device=own.device) * settings.group_size + first
    mask = _not_negatives(examples, positives, own.device)
    query_loss = infonce(queries, passages, positives, settings.temperature, mask)
    rewrite_loss = infonce(rewrites, passages.detach(), positives, settings.temperature, mask)
    objective = settings.infonce_weight * query_loss
    if settings.soft_target_weight:
        scores = torch.tensor([e.scores for e in examples], dtype=torch.float32, device=own.device)
        groups = own.view(len(examples), settings.group_size, -1)
        objective = objective + settings.soft_target_weight * soft_target_divergence(
            queries, groups, scores, settings.temperature, settings.soft_target_temperature
        )
    return Losses(objective, query_loss, rewrite_loss)


def embed_by_length(engine: Any, ids: list[list[int]], chunks: int) -> torch.Tensor:
    """(texts, dim) vectors in the order given, computed in ``chunks`` passes over texts of like length.

    The number of passes is fixed, not a token budget's: with ZeRO-3 every rank must run as many.
    """
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    size = -(-len(order) // chunks)
    parts = [engine(**engine.module.pad([ids[i] for i in order[s : s + size]])) for s in range(0, len(order), size)]
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts).float()[back.to(parts[0].device)]


def _not_negatives(examples: list[Example], positives: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(q, passages of all ranks), True where the passage's text is a known positive of the query, its own one apart."""
    keys = gather(torch.tensor([text_key(text) for e in examples for text in e.passages], device=device))
    known = [torch.tensor(sorted(e.positive_keys), device=device) for e in examples]
    mask = torch.stack([torch.isin(keys, mine) for mine in known])
    mask[torch.arange(len(examples), device=device), positives] = False
    return mask


def _figures(loss: torch.Tensor, losses: Losses, intensity: torch.Tensor, batch_size: int) -> dict[str, float]:
    sums = torch.stack([loss.detach(), losses.query.detach().sum(), losses.rewrite.sum(), intensity.sum()])
    whole = total(sums).tolist()
    return {
        "loss": whole[0],
        "infonce": whole[1] / batch_size,
        "infonce_rewrite": whole[2] / batch_size,
        "reasoning_intensity": whole[3] / batch_size,
    }
