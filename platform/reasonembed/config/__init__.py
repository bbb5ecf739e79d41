"""The configuration: one strict model per section, and the reader that lays file, environment, arguments together."""

from reasonembed.config.base import Section
from reasonembed.config.cluster import Cluster, Place
from reasonembed.config.llm import Llm, Sampling
from reasonembed.config.load import load_config
from reasonembed.config.redapter import MINILM, Train
from reasonembed.config.remixer import Annotate, Clean, Generate, Rewrite
from reasonembed.config.sections import (
    Assemble,
    Config,
    Corpus,
    Encode,
    Evaluate,
    Export,
    Index,
    Mine,
    Plan,
    Run,
    Serve,
)

__all__ = [
    "MINILM",
    "Annotate",
    "Assemble",
    "Clean",
    "Cluster",
    "Config",
    "Corpus",
    "Encode",
    "Evaluate",
    "Export",
    "Generate",
    "Index",
    "Llm",
    "Mine",
    "Place",
    "Plan",
    "Rewrite",
    "Run",
    "Sampling",
    "Section",
    "Serve",
    "Train",
    "load_config",
]
