"""Requests to chat messages. A prompt is a file in ``prompts/``; what comes from a corpus or a model is material in it.

Material cannot leave its place: whatever in it looks like a tag of the prompt, a token of a chat template or a control
character is put out of action before it is set in. That is what keeps a document that contains ``</document>`` or
``<|im_start|>`` from speaking with the prompt's voice; and since an answer is read from the model's output alone, a
``{"grade": 5}`` in a document is just text.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import yaml

from reasonembed.ids import digest
from reasonembed.llm.protocol import Request

# An angle bracket that could open a tag (<document>, </query>, <|im_start|>, <<SYS>>, DeepSeek's full-width bars), and
# a square one that could open a template's token ([INST], [/INST]). Their look-alikes read the same to a model.
TAG = re.compile(r"<(?=[/|!<｜]?[\w|/<｜])")
BRACKET_TOKEN = re.compile(r"\[(?=/?(?:[A-Z_]{3,}|gMASK)\])")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def neutral(material: Any) -> str:
    """Text that no prompt and no chat template takes for its own."""
    text = CONTROL.sub("", str(material).encode("utf-8", "replace").decode("utf-8"))
    return BRACKET_TOKEN.sub("［", TAG.sub("‹", text))


def messages(request: Request) -> list[dict[str, str]]:
    """The request's prompt as a system and a user message."""
    template = _environment().get_template(f"{request.kind}.j2")
    context = template.new_context(dict(request.fields))
    return [{"role": role, "content": "".join(template.blocks[role](context)).strip()} for role in ("system", "user")]


@cache
def prompts_fingerprint() -> str:
    """Stands for every prompt file and for how material is set in."""
    folder = resources.files("reasonembed.remixer") / "prompts"
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.iterdir(), key=lambda f: f.name)]
    return digest(*texts, TAG.pattern, BRACKET_TOKEN.pattern, CONTROL.pattern)


@cache
def relevance_definitions() -> Mapping[str, Any]:
    """``default``, and ``tasks`` by name."""
    file = resources.files("reasonembed.remixer") / "prompts" / "relevance.yaml"
    definitions: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return definitions


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("reasonembed.remixer", "prompts"),
        finalize=neutral,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
