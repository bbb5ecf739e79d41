"""The artefacts that the stages between corpus and training share, as they travel to the workers."""

from dataclasses import dataclass

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode


@dataclass(frozen=True)
class Materials:
    corpus: Artifact
    embeddings: Artifact
    """Of the whole corpus, made with ``model``."""
    model: str
    encode: Encode
