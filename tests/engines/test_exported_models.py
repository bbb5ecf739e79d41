"""A model folder that training writes gives the same vectors in transformers, Sentence Transformers and vLLM."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from factories import write_llm
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from reasonembed.config import Encode, Train
from reasonembed.embedder.model import Embedder
from reasonembed.redapter.engines.factory import prepare_model

TEXTS = ["The river and the rain", "ice", "A bell makes a song when the echo comes near. " * 3]
ENCODE_WITH_VLLM = """
import json, os, sys
os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "ERROR"}
from reasonembed.config import Encode, Serve
from reasonembed.serving.encoders import ServedModel, VllmEncoder
encoder = VllmEncoder(ServedModel(sys.argv[1], "", Encode(max_tokens=256)), Serve(), "cpu")
print(json.dumps(encoder.encode(encoder.tokenize(json.loads(sys.argv[2]))).tolist()), flush=True)
os._exit(0)
"""


def export_changed_model(source, folder, lora):
    """Exports a model with changed weights, as after some training steps; returns its vectors of ``TEXTS``.

    With LoRA both matrices of every adapter are changed.
    """
    model = Embedder.load(str(source), Encode())
    prepare_model(model, Train(lora_rank=4 if lora else 0, lora_targets=["q_proj", "v_proj", "down_proj"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save(folder, max_tokens=256)
    return model.encode(TEXTS, 256)


def encode_with_vllm(folder):
    """Encodes ``TEXTS`` as the endpoint does with ``serve.engine: vllm``."""
    done = subprocess.run(
        [sys.executable, "-c", ENCODE_WITH_VLLM, str(folder), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def encode_with_transformers(folder):
    """Encodes ``TEXTS`` with plain ``transformers``: the last hidden state of the last token, normalized."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    vectors = []
    for text in TEXTS:
        batch = tokenizer(text, return_tensors="pt")
        assert batch["input_ids"][0, -1] == tokenizer.eos_token_id
        with torch.inference_mode():
            last = model(**batch).last_hidden_state[0, -1]
        vectors.append(torch.nn.functional.normalize(last, dim=0).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("lora", [False, True])
def test_a_decoder_gives_the_same_vectors_in_every_library(tmp_path, tiny_llm, lora):
    folder = tmp_path / "exported"
    ours = export_changed_model(tiny_llm, folder, lora)
    assert ours == pytest.approx(Embedder.load(str(folder)).encode(TEXTS, 256), abs=1e-5)
    assert ours == pytest.approx(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), abs=1e-5)
    assert ours == pytest.approx(encode_with_transformers(folder), abs=1e-5)
    assert abs(ours - Embedder.load(str(tiny_llm)).encode(TEXTS, 256)).max() > 1e-3


@pytest.mark.extended
def test_a_decoder_gives_the_same_vectors_in_vllm(tmp_path, tiny_llm):
    """With LoRA; the adapters are merged, so the folder has the same layout as one without."""
    ours = export_changed_model(tiny_llm, tmp_path / "exported", lora=True)
    assert ours == pytest.approx(encode_with_vllm(tmp_path / "exported"), abs=1e-5)


def test_an_export_does_not_change_the_weights_in_training(tmp_path, tiny_llm):
    model = Embedder.load(str(tiny_llm))
    prepare_model(model, Train(lora_rank=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.save(tmp_path, 256)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_llamas_first_token_is_kept_and_an_end_token_is_added(tmp_path):
    """The tokenizer puts a token before every text, as Llama's does; the model is a Llama."""
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaModel

    write_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "llm")
    first = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", first)]
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")

    ours = export_changed_model(tmp_path / "llama", tmp_path / "out", lora=True)
    model = Embedder.load(str(tmp_path / "out"))
    assert model.pooling == "lasttoken"
    for text, ids in zip(TEXTS, model.tokenize(TEXTS, 256), strict=True):
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == [first, *plain, tokenizer.eos_token_id]
    # A text that is too long keeps its first and its last token.
    [ids] = model.tokenize([TEXTS[2]], 8)
    assert (len(ids), ids[0], ids[-1]) == (8, first, tokenizer.eos_token_id)
    assert ours == pytest.approx(SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS), abs=1e-5)
    assert ours == pytest.approx(encode_with_transformers(tmp_path / "out"), abs=1e-5)


def test_a_lora_target_without_a_layer_is_an_error(tiny_model):
    from reasonembed.errors import UserError

    with pytest.raises(UserError, match=r"no layer named q_proj; its linear layers end in dense, key, query, value"):
        prepare_model(Embedder.load(str(tiny_model)), Train(lora_rank=2, lora_targets=["q_proj"]))
