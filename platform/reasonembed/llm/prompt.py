"""Chat prompts, and how text from a corpus or a model is inserted into them.

Inserted text cannot pose as a part of the prompt: whatever in it could be one of the prompt's own tags or a special
token of the model's tokenizer is neutralised first (``neutralisation``). A document that contains ``</document>`` or
``<|im_start|>`` therefore stays a document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from reasonembed.ids import digest
from reasonembed.llm.neutralisation import Neutraliser


@dataclass(frozen=True)
class Prompt:
    """A system and a user message as Jinja templates.

    Args:
        system: template of the system message; it explains the task and the form of the answer.
        user: template of the user message; it holds the row's text between ``tags``.
        tags: names of the tags that enclose inserted text.
    """

    system: str
    user: str
    tags: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with the templates and with the rules of neutralisation."""
        return digest(self.system, self.user, Neutraliser(self.tags, None).fingerprint)


class PromptRenderer:
    """Renders one prompt for rows.

    Args:
        prompt: the templates.
        special_tokens: of the model's tokenizer; None where it is not known.
    """

    def __init__(self, prompt: Prompt, special_tokens: Sequence[str] | None = None) -> None:
        neutralise = Neutraliser(prompt.tags, special_tokens)
        environment = jinja2.Environment(
            finalize=lambda value: neutralise(str(value)),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates = {
            "system": environment.from_string(prompt.system),
            "user": environment.from_string(prompt.user),
        }

    def messages(self, fields: Mapping[str, str]) -> list[dict[str, str]]:
        """Returns the chat messages, each with ``role`` and ``content``."""
        return [{"role": role, "content": t.render(fields).strip()} for role, t in self._templates.items()]
