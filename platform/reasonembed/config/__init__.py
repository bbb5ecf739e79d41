"""The configuration: one strict model per section, and the function that reads file, environment and arguments."""

from reasonembed.config.language_model import Llm, Sampling
from reasonembed.config.loading import load_config
from reasonembed.config.remixer_sections import Annotate, Clean, Generate, Rewrite
from reasonembed.config.resources import Cluster, Resources
from reasonembed.config.section import Section
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
from reasonembed.config.train_section import MINILM, Train

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
    "Plan",
    "Resources",
    "Rewrite",
    "Run",
    "Sampling",
    "Section",
    "Serve",
    "Train",
    "load_config",
]
