"""The model card: what a model folder says of itself, in Markdown with the hub's front matter."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CARD = "README.md"
MEASURE = "dev_ndcg@10"
"""Of queries that were held out of training (``dev.evaluate_held_out``): by it the best step is chosen."""


@dataclass(frozen=True)
class Origin:
    """
    Args:
        base_model: what was trained.
        training_data: URI of the training rows.
        data_fingerprint: their hash.
        commit: of the code; None outside a checkout.
        versions: of packages.
        settings: of training, and how texts are encoded.
    """

    base_model: str
    training_data: str
    data_fingerprint: str
    commit: str | None
    versions: Mapping[str, str]
    settings: Mapping[str, Any]


def model_card(origin: Origin, pooling: str, dimension: int, step: int, figures: Mapping[str, float]) -> str:
    """
    Args:
        origin: of the model.
        pooling: one of ``pooling.MODES``.
        dimension: of its vectors.
        step: of training that the weights are of.
        figures: of that step.
    """
    # What the loader is told as `package:` or a path is no name on the hub.
    hub = origin.base_model.count("/") == 1 and not origin.base_model.startswith((".", "/", "~"))
    front = ["---", "library_name: sentence-transformers", "pipeline_tag: feature-extraction"]
    front += [f"base_model: {origin.base_model}"] if hub else []
    front += ["tags:", "- sentence-transformers", "- feature-extraction", "- reasoning-intensive-retrieval", "---"]
    measured = [f"| {name} | {value:.6g} |" for name, value in figures.items()]
    dev = "ranks the held-out queries' own passages; it is no benchmark's score" if MEASURE in figures else ""
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
            *measured,
            "",
            *([f"`{MEASURE}` {dev}.", ""] if dev else []),
            "Settings:",
            "",
            "```json",
            json.dumps(origin.settings, indent=1, sort_keys=True),
            "```",
            "",
        ]
    )
