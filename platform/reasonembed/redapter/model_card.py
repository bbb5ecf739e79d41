"""The model card: a model folder's description in Markdown, with the front matter that the Hugging Face hub reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL_CARD_FILE = "README.md"
HELD_OUT_METRIC = "dev_ndcg@10"
"""The figure of ``held_out.evaluate_held_out``, by which the best checkpoint is chosen."""


@dataclass(frozen=True)
class Origin:
    """The provenance of a trained model.

    Args:
        base_model: name of the model before training.
        training_data: URI of the training rows.
        data_fingerprint: hash of the training rows.
        commit: git commit of the code; None outside a checkout.
        versions: versions of packages by name.
        settings: settings of training and of encoding.
    """

    base_model: str
    training_data: str
    data_fingerprint: str
    commit: str | None
    versions: Mapping[str, str]
    settings: Mapping[str, Any]


def model_card(origin: Origin, pooling: str, dimension: int, step: int, figures: Mapping[str, float]) -> str:
    """Returns the model card as Markdown.

    Args:
        origin: of the model.
        pooling: one of ``pooling.MODES``.
        dimension: numbers in a vector.
        step: the training step that produced the weights.
        figures: of that step, by name.
    """
    # `package:` names and paths do not exist on the hub, which checks `base_model`.
    on_hub = origin.base_model.count("/") == 1 and not origin.base_model.startswith((".", "/", "~"))
    front = ["---", "library_name: sentence-transformers", "pipeline_tag: feature-extraction"]
    front += [f"base_model: {origin.base_model}"] if on_hub else []
    front += ["tags:", "- sentence-transformers", "- feature-extraction", "- reasoning-intensive-retrieval", "---"]
    figure_rows = [f"| {name} | {value:.6g} |" for name, value in figures.items()]
    held_out_note = [
        f"`{HELD_OUT_METRIC}`: held-out queries rank their own passages; this is not a benchmark score.",
        "",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items()))
    return "\n".join(
        [
            *front,
            "",
            "# Embedder for reasoning-intensive retrieval",
            "",
            f"Trained with reasonembed (RI-InfoNCE) from `{origin.base_model}`. A text becomes a unit vector of "
            f"{dimension} dimensions ({pooling} pooling); texts are compared by inner product.",
            "",
            "```python",
            "from sentence_transformers import SentenceTransformer",
            "",
            'vectors = SentenceTransformer("path/to/this/folder").encode(["a query", "a document"])',
            "```",
            "",
            "## Training",
            "",
            f"- data: `{origin.training_data}` (fingerprint `{origin.data_fingerprint}`)",
            f"- weights of step {step}",
            f"- code: commit `{origin.commit or 'unknown'}`; {versions}",
            "",
            f"| figure of step {step} | value |",
            "|---|---|",
            *figure_rows,
            "",
            *(held_out_note if HELD_OUT_METRIC in figures else []),
            "Settings:",
            "",
            "```json",
            json.dumps(origin.settings, indent=1, sort_keys=True),
            "```",
            "",
        ]
    )
