"""Factories of test data: a small corpus with questions, small random models, configs and training rows."""

import json
from pathlib import Path

WORDS = {
    "heat": ["warm", "fire", "sun", "boil", "steam", "ember", "oven", "glow"],
    "cold": ["ice", "snow", "frost", "chill", "freeze", "winter", "glacier", "sleet"],
    "sound": ["song", "echo", "drum", "whisper", "noise", "chord", "hum", "bell"],
    "water": ["river", "rain", "lake", "wave", "tide", "brook", "flood", "pond"],
}

# A random model never stops by itself, so its answers are limited in length.
SHORT_ANSWERS = {"max_new_tokens": 100, "max_text_chars": 12}

# ``llm.engine_kwargs`` with which vLLM's build for CPUs runs the model of ``write_llm`` in little memory.
VLLM_ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 64 << 20,
    "max_num_seqs": 32,
    "block_size": 32,
}


def write_bright(folder: Path, documents_per_topic: int = 16) -> Path:
    """Writes a BRIGHT folder with two tasks; documents of a topic share words, and each question is about one topic."""
    for task, topics in (("physics", ("heat", "cold")), ("nature", ("sound", "water"))):
        task_folder = folder / task
        task_folder.mkdir(parents=True, exist_ok=True)
        documents, examples = [], []
        for topic in topics:
            words = WORDS[topic]
            for n in range(documents_per_topic):
                a, b, c, d = (words[(n * k + k) % len(words)] for k in (1, 2, 3, 5))
                text = f"The {a} and the {b} of number {n} make a {c} when the {d} comes near. It is about {topic}."
                documents.append({"id": f"{task}/{topic} {n}", "content": text})
            question = f"Which page speaks of {words[0]} with {words[1]}?"
            gold = [f"{task}/{topic} 0", f"{task}/{topic} 1"]
            excluded = [f"{task}/{topic} 2"] if topic == "heat" else ["N/A"]
            examples.append({"id": topic, "query": question, "excluded_ids": excluded, "gold_ids": gold})
        write_lines(task_folder / "documents.jsonl", documents)
        write_lines(task_folder / "examples.jsonl", examples)
    return folder


def write_lines(path: Path, rows: list[dict]) -> None:
    """Writes the rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_model(folder: Path, corpus: Path) -> Path:
    """Writes a BERT with two small random layers and the vocabulary of the corpus, as a ``transformers`` folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = sorted({w for path in corpus.rglob("*.jsonl") for w in _words(path.read_text(encoding="utf-8"))})
    vocabulary = {word: index for index, word in enumerate(special + words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_llm(folder: Path, hidden_size: int = 64, layers: int = 2) -> Path:
    """Writes a Qwen3 with small random layers, a byte-level vocabulary and a chat template, which vLLM can load."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"The {' and the '.join(words)} make a question about the {topic}." for topic, words in WORDS.items()]
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=1,
        head_dim=32,  # the smallest size that vLLM's attention kernels for CPUs support
        max_position_embeddings=4096,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _words(text: str) -> set[str]:
    return {word.lower() for word in "".join(c if c.isalnum() else " " for c in text).split()}


def write_config(path: Path, root: str, corpus: Path, model: Path, /, **sections: dict) -> Path:
    """Writes the config of a whole pipeline with few rows and few training steps, which runs in about a minute."""
    import yaml

    values = {
        "run": {"root": root, "rows_per_block": 16, "actors": 1},
        "corpus": {"source": f"bright:{corpus}"},
        "generate": {"max_queries": 40, "min_chars": 40},
        "rewrite": {"feedback_docs": 2},
        "mine": {"keep": 8, "near_duplicate": 0.9999},
        "train": {
            "base_model": str(model),
            "workers": 1,
            "steps": 12,
            "batch_size": 4,
            "group_size": 3,
            "max_tokens": 32,
            "learning_rate": 1e-3,
            "temperature": 0.05,
            "soft_target_weight": 1.0,
            "ri_start_step": 2,
            "checkpoint_steps": 4,
        },
        "encode": {"max_tokens": 32},
        "evaluate": {"bootstrap": 200},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def load_pipeline(config: Path, *overrides: str):
    """Returns the ``Pipeline`` of a config file and overrides in this process, without announcements."""
    from reasonembed.config import load_config
    from reasonembed.distributed.ray_backend import RayBackend
    from reasonembed.pipeline.pipeline import Pipeline

    loaded = load_config(config, [*overrides])
    return Pipeline(loaded, RayBackend(loaded), announce=lambda text: None)


class MemoryBatches:
    """Training batches in memory, equal to those of the stage ``batches``, for the training loop without Ray."""

    def __init__(self, rows: list[dict], settings, seed: int = 0, held_out: list[dict] = ()) -> None:
        import pyarrow as pa

        from reasonembed import schemas
        from reasonembed.redapter.batch_plan import BATCHES, plan_steps, sample_batch_row

        self.steps = plan_steps([(row["task"], row["query_id"]) for row in rows], settings, seed)
        self.held_out = pa.Table.from_pylist(list(held_out), schema=schemas.TRAINING)
        by_id = {row["query_id"]: row for row in rows}
        self._tables = [
            pa.Table.from_pylist(
                [
                    sample_batch_row(by_id[q], n, position, step.group_size, settings, seed)
                    for position, q in enumerate(step.query_ids)
                ],
                schema=BATCHES,
            )
            for n, step in enumerate(self.steps)
        ]

    def examples(self, start: int):
        """Yields this rank's examples of every step from ``start`` on."""
        from reasonembed.redapter.batch_plan import rows_per_rank, to_examples
        from reasonembed.redapter.gather import rank, world_size

        for table in self._tables[start:]:
            counts = rows_per_rank(table.num_rows, world_size())
            yield to_examples(table.slice(sum(counts[: rank()]), counts[rank()]))


def _passage(words: list[str], n: int) -> str:
    a, b, c = (words[k % len(words)] for k in (n, n * 3 + 1, n + 2))
    return f"The {a} and the {b} of {n} near the {c}."


def training_rows(count: int = 24, task: str = "water") -> list[dict]:
    """Rows of ``schemas.TRAINING``: positives are about the topic of the query, negatives about other topics."""
    rows = []
    for n in range(count):
        topic = list(WORDS)[n % len(WORDS)]
        other_words = [word for other in WORDS if other != topic for word in WORDS[other]]
        words = WORDS[topic]
        rows.append(
            {
                "query_id": f"{task}-{n}",
                "task": task,
                "prompt": "Find the page.",
                "query": f"which {words[n % 8]} with {words[(n + 3) % 8]}" + " and more" * (n % 5),
                "reasoning_query": f"{topic} {words[n % 8]} {words[(n + 1) % 8]} {words[(n + 2) % 8]}",
                "pos": [_passage(words, n + k) for k in range(2)],
                "neg": [_passage(other_words, n + 5 * k) for k in range(5)],
                "pos_score": [0.9, 0.8],
                "neg_score": [0.1 * k for k in range(5)],
                "pos_grade": [5, 4],
                "neg_grade": [1, 2, 1, 2, 1],
                "train_group_size": 16,
                "batch_size": 8,
            }
        )
    return rows
