"""Makes foreign text harmless before it is put into a prompt, and leaves all other text as it is.

Two things in a document can act as more than text: a tag of our own prompt (``</document>``), which would end the
document early, and a special token of the model's tokenizer (``<|im_start|>``), which would start a chat turn of its
own, because engines tokenise the rendered prompt with special-token parsing on. Only these are changed, by one visible
character: ``‹/document>``, ``‹|im_start|>``, ``⟦INST]``. ``List<int>``, ``a<b`` and ``x[ERROR]`` stay as they are.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from reasonembed.errors import UserError
from reasonembed.ids import digest

RULES_VERSION = "1"  # raise it when the code below treats a text differently and no pattern shows it
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Neither has a Unicode decomposition, so no normalisation of a tokenizer turns them back.
LOOK_ALIKES = {"<": "‹", "[": "⟦"}
SEPARATOR = "·"  # breaks a token that starts with any other character

# Tokens of known families of chat models, for servers whose tokenizer is unknown.
KNOWN_TOKENS = tuple(
    "<s> </s> <bos> <eos> <pad> <unk> <mask> <sep> <cls> <eod> <sop> <eop> <eoh> <eoa> <eom> <BOS_TOKEN> <EOS_TOKEN> "
    "<<SYS>> <</SYS>> [INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] "
    "[TOOL_CALLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CONTENT] [CALL_ID] [ARGS] [PREFIX] [MIDDLE] [SUFFIX] "
    "[IMG] [IMG_BREAK] [IMG_END] [AUDIO] [BEGIN_AUDIO] [THINK] [/THINK] [MODEL_SETTINGS] [/MODEL_SETTINGS] "
    "[gMASK] [sMASK] [MASK] [BOS] [EOS] [EOT] [PAD] [UNK] "
    "[|system|] [|user|] [|assistant|] [|tool|] [|endofturn|] ]~!b[ ]~b] [e~[ <用户> <｜DSML｜ </｜DSML｜ "
    "<think> </think> <thought> </thought> <tool_call> </tool_call> <tool_response> </tool_response> <image> "
    "<image_soft_token> <end_of_utterance> <fim_prefix> <fim_middle> <fim_suffix> <fim_pad> <file_sep> <repo_name> "
    "<role>SYSTEM</role> <role>HUMAN</role> <role>ASSISTANT</role> <role>OBSERVATION</role>".split()
)
# Each repetition in a shape is bounded, and none contains another: matching takes linear time.
TOKEN_SHAPES = (
    r"<[|｜](?=[^\s|｜>])[^|｜>\n]{1,64}(?<!\s)[|｜]>",  # <|im_start|>, <｜User｜>
    r"<\|/?\w{1,64}>",  # <|turn>
    r"<\w{1,64}\|>",  # <turn|>
    r"</?seed:[\w:]{1,64}>",
    r"<(?:start|end)_(?:of|function)_\w{1,64}>",
    r"<(?:unused|extra_id_|reserved_|SPECIAL_)\d{1,6}>",
    r"\[(?:UNUSED_TOKEN_|control_|unused)\d{1,6}\]",
)
CHAT_ROLES = ("system", "user", "assistant", "tool")
DELIMITED = re.compile(r"[^\w\s▁].*\w")  # no ordinary word, and no run of spaces
ROLE_DELIMITERS = {"<|": "|>", "<｜": "｜>", "[|": "|]"}


class _Folding(dict[int, str]):
    """Translation table from a character to what a normalising tokenizer may read it as.

    That is its compatibility decomposition (NFKD) without marks and without characters that cannot be seen: zero-width
    characters, bidi controls, variation selectors, Unicode tag characters. SentencePiece's ``▁`` is a space.
    """

    def __missing__(self, code: int) -> str:
        self[code] = "".join(c for c in unicodedata.normalize("NFKD", chr(code)) if not _is_ignorable(c))
        return self[code]


def _is_ignorable(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in ("Cf", "Mn", "Me")
        or 0xE0000 <= code <= 0xE0FFF
        or 0xFFF0 <= code <= 0xFFF8
        or code in (0x115F, 0x1160, 0x2065, 0x3164)
        or (0x80 <= code <= 0x9F and code != 0x85)
    )


_FOLDING = _Folding({0x2581: " "})


@dataclass(frozen=True)
class Neutraliser:
    """Changes the tags and special tokens in a text such that neither a model nor a tokenizer takes them for its own.

    A tag matches in any case, with white space, slashes or attributes, opening or closing. Tags and tokens are also
    recognised where normalisation would restore them: in full-width forms, or with invisible characters inside.

    Args:
        tags: names of the tags of the prompt at hand (``query``, ``document``).
        special_tokens: the tokenizer's (see ``special_tokens_of``); None when it is unknown: then the tokens and token
            shapes of known model families count. Single characters are ignored: they are ordinary text as well.
    """

    tags: Sequence[str]
    special_tokens: Sequence[str] | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(self.tags))
        if self.special_tokens is not None:
            object.__setattr__(self, "special_tokens", tuple(self.special_tokens))

    def __call__(self, text: object) -> str:
        """Returns the text without control characters and lone surrogates, its tags and special tokens neutralised.

        Takes time linear in the length of the text.
        """
        clean = CONTROL_CHARACTERS.sub("", str(text).encode("utf-8", "replace").decode("utf-8"))
        folded = clean if clean.isascii() else clean.translate(_FOLDING)
        starts = [m.start() for m in self._first_characters.finditer(folded) if self._rules.match(folded, m.start())]
        if not starts:
            return clean
        if folded is not clean:
            sources = [i for i, character in enumerate(clean) for _ in _FOLDING[ord(character)]]
            starts = list(dict.fromkeys(sources[start] for start in starts))
        pieces, end = [], 0
        for start in starts:
            character = clean[start]
            look_alike = LOOK_ALIKES.get(character.translate(_FOLDING), character + SEPARATOR)
            pieces += [clean[end:start], look_alike]
            end = start + 1
        return "".join([*pieces, clean[end:]])

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the rules do: tags, tokens, shapes, replacements."""
        replacements = [*LOOK_ALIKES, *LOOK_ALIKES.values(), SEPARATOR]
        return digest(RULES_VERSION, self._rules.pattern, CONTROL_CHARACTERS.pattern, *replacements)

    @cached_property
    def _tokens(self) -> list[str]:
        tokens = KNOWN_TOKENS if self.special_tokens is None else self.special_tokens
        return sorted({folded for token in tokens if len(folded := token.translate(_FOLDING).strip()) > 1})

    @cached_property
    def _rules(self) -> re.Pattern[str]:
        rules = [_tag_pattern(self.tags)] if self.tags else []
        rules += TOKEN_SHAPES if self.special_tokens is None else ()
        rules += [_any_of(self._tokens)] if self._tokens else []
        return re.compile("|".join(rules) or "(?!)")

    @cached_property
    def _first_characters(self) -> re.Pattern[str]:
        characters = {"<", "["} | {token[0] for token in self._tokens}
        return re.compile("[" + "".join(map(re.escape, sorted(characters))) + "]")


def special_tokens_of(model_folder: str) -> tuple[str, ...]:
    """Returns the special tokens of the tokenizer in a model folder, sorted. Loads neither torch nor the tokenizer.

    These are the tokens that the folder's files declare as special, its other added tokens of a known shape, and the
    tokens in its chat templates (Llama 2 writes ``[INST]`` as ordinary text). Where no file lists all added tokens, the
    tokens of known model families are included.

    Args:
        model_folder: folder with ``tokenizer.json``, ``tokenizer_config.json``, ``tekken.json`` or the like.

    Raises:
        UserError: there is no such folder, or a file in it is not valid JSON.
    """
    folder = Path(model_folder)
    if not folder.is_dir():
        raise UserError(
            f"tokenizer of model {model_folder}: no such folder; name a folder that holds the model's files"
        )
    config, fast, tekken = (_read_json(folder, f"{name}.json") for name in ("tokenizer_config", "tokenizer", "tekken"))
    decoder = config.get("added_tokens_decoder") or {}
    entries = [*(fast.get("added_tokens") or ()), *decoder.values()]
    control_tokens = tekken.get("special_tokens") or []
    named = [*_named_tokens(config), *_named_tokens(_read_json(folder, "special_tokens_map.json"))]
    special = _texts([entry for entry in entries if entry.get("special")] + control_tokens + named)
    if not (fast or decoder or control_tokens):
        special.update(KNOWN_TOKENS)

    known = re.compile("|".join([*TOKEN_SHAPES, *map(re.escape, KNOWN_TOKENS)]))
    literals = [text for template in _chat_templates(folder, config) for text in _literals(template)]
    for token in _texts(entries) | set(_read_json(folder, "added_tokens.json")):
        in_template = DELIMITED.match(token) and any(token in text for text in literals)
        if in_template or known.fullmatch(token):
            special.add(token)
    for text in literals:
        special.update(match.group() for match in known.finditer(text))
        for opening, closing in ROLE_DELIMITERS.items():
            if text.endswith(opening):  # a template such as '<|' + message.role + '|>'
                special.update(f"{opening}{role}{closing}" for role in CHAT_ROLES)
    return tuple(sorted(special))


def _tag_pattern(tags: Sequence[str]) -> str:
    """Possessive repetitions: no position of the text is tried twice from the same bracket."""
    names = "|".join(re.escape(tag.translate(_FOLDING)) for tag in tags)
    closing = rf"[\s\\]*+/[\s/\\]*+(?:{names})(?!\w|[-.:]\w)"  # "</document" counts without its ">", too
    bare = rf"[\s/\\]*+(?:{names})[\s/\\]*+>"
    attribute = rf"\s*+(?:{names})[\s/\\]++[\w:.-]{{1,64}}+\s*+=(?!=)"
    words = rf"(?:{names})[\s/\\]++[\"'\w][^>]{{0,200}}+>"  # "<document the second>", but not "a < document and b > c"
    return f"(?i:<(?:{closing}|{bare}|{attribute}|{words}))"


def _any_of(tokens: Iterable[str]) -> str:
    """A pattern for the start of any of the tokens, as a tree of their prefixes: thousands cost no more than a few."""
    root: dict[str, Any] = {}
    for token in tokens:
        node = root
        for character in token:
            node = node.setdefault(character, {})
        node[""] = {}
    return _branches(root)


def _branches(node: Mapping[str, Any]) -> str:
    chain = ""
    while len(node) == 1 and "" not in node:
        ((character, node),) = node.items()
        chain += re.escape(character)
    if "" in node:  # a token ends here, and a longer one with this start makes no difference
        return chain
    return chain + "(?:" + "|".join(re.escape(character) + _branches(node[character]) for character in node) + ")"


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{folder / name} is not valid JSON; copy the model's files again") from None
    return content if isinstance(content, dict) else {}


def _named_tokens(config: Mapping[str, Any]) -> Iterable[Any]:
    """The values of keys such as ``eos_token``, ``additional_special_tokens`` and ``extra_special_tokens``."""
    for name, value in config.items():
        if name.endswith("_token"):
            yield value
        elif name.endswith("_special_tokens") and value:
            yield from value.values() if isinstance(value, dict) else value


def _texts(tokens: Iterable[Any]) -> set[str]:
    """The texts of tokens, which are strings or objects with the text in ``content`` or ``token_str``."""
    texts = (t.get("content", t.get("token_str")) if isinstance(t, dict) else t for t in tokens)
    return {text for text in texts if isinstance(text, str)}


def _chat_templates(folder: Path, config: Mapping[str, Any]) -> Iterable[str]:
    for value in (config.get("chat_template"), _read_json(folder, "chat_template.json").get("chat_template")):
        for template in value if isinstance(value, list) else [value]:
            source = template.get("template") if isinstance(template, dict) else template
            if isinstance(source, str):
                yield source
    for path in sorted([*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")]):
        yield path.read_text(encoding="utf-8")


def _literals(template: str) -> list[str]:
    """The texts that a template can write: what lies outside its expressions, and the strings within them."""
    try:
        parts = list(jinja2.Environment().lex(template))
    except jinja2.TemplateSyntaxError:
        return [template]
    return [text[1:-1] if kind == "string" else text for _, kind, text in parts if kind in ("data", "string")]
