"""Evaluation over real parts: Ray Data encodes, torch embeds, files are measured, a browser opens the page."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytrec_eval
import ray
import torch
from browser import browser
from parts import write_config, write_lines
from processes import start_job, wait_for
from safetensors.torch import load_file, save_file

from reasonembed import artifacts, schemas, storage
from reasonembed.config import load_config
from reasonembed.errors import UserError, intended
from reasonembed.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def evaluate(finished):
    """Evaluate in this process, with the pipeline run's configuration and overrides; errors come as jobs show them."""

    def run(*overrides, **pipeline_settings):
        pipeline = Pipeline(load_config(finished.config, [*overrides]), announce=lambda text: None)
        try:
            return pipeline.evaluate(**pipeline_settings)
        except Exception as raised:
            error = intended(raised)
            if error is None:
                raise
            raise error from None

    yield run
    ray.shutdown()


def encodings(root):
    return {artifact.uri: artifact.figures for artifact in artifacts.finished(str(root), "encode")}


def copied_model(model, folder, change):
    """The model with other weights."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_nothing_is_encoded_twice(evaluate, finished, tiny_corpus, tmp_path):
    before = encodings(finished.root)
    evaluate("evaluate.bootstrap=200")
    assert encodings(finished.root) == before
    # Another corpus: one text is new, the others are taken from what has been encoded.
    other = tmp_path / "other"
    shutil.copytree(tiny_corpus, other)
    with (other / "nature" / "documents.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "content": "A text that nobody has encoded yet."}) + "\n")
        file.write(json.dumps({"id": "copy", "content": "A text that nobody has encoded yet."}) + "\n")
    found = evaluate(f"evaluate.benchmark=bright:{other}")
    [(uri, figures)] = [(uri, f) for uri, f in encodings(finished.root).items() if uri not in before]
    assert (figures["encoded"], figures["resumed"]) == (1, 0)
    assert figures["cached"] == figures["rows"] - 1 == 64
    vectors = artifacts.load(uri).table(schemas.EMBEDDINGS)
    assert vectors.num_rows == 65
    assert found.figures["scores"]["average"]["recall@1000"] == 1


def test_a_model_with_other_weights_is_encoded_anew(evaluate, finished, tiny_model, tmp_path):
    model = copied_model(tiny_model, tmp_path / "model", lambda weights: weights)
    before = encodings(finished.root)
    evaluate(f"evaluate.model={model}")
    assert encodings(finished.root) == before, "the same weights, under another name"
    shutil.rmtree(model)
    key = "embeddings.word_embeddings.weight"
    copied_model(tiny_model, model, lambda weights: weights | {key: weights[key].flip(0)})
    evaluate(f"evaluate.model={model}")
    [figures] = [figures for uri, figures in encodings(finished.root).items() if uri not in before]
    assert (figures["encoded"], figures["cached"]) == (64, 0)


def test_vectors_that_are_no_numbers_end_in_one_line(evaluate, tiny_model, tmp_path):
    key = "embeddings.LayerNorm.weight"
    broken = lambda weights: weights | {key: torch.full_like(weights[key], float("nan"))}  # noqa: E731
    model = copied_model(tiny_model, tmp_path / "model", broken)
    with pytest.raises(UserError, match="not finite numbers, first for the text"):
        evaluate(f"evaluate.model={model}")


def test_a_cache_of_another_dimension_is_refused(evaluate, finished, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(finished.root / "encode", root / "encode")
    shutil.copytree(finished.root / "corpus", root / "corpus")
    for path in root.glob("encode/*/part-*.parquet"):
        table = pq.read_table(path)
        short = [vector[:16] for vector in table["embedding"].to_pylist()]
        pq.write_table(pa.table([table["text_id"], short], schema=schemas.EMBEDDINGS), path)
    with pytest.raises(UserError, match=r"have 16 dimensions, model .* has 32; remove that folder"):
        evaluate(f"run.root={root}")


def test_fusion_of_systems_and_of_their_run_files(evaluate, finished, tmp_path):
    fused = evaluate("evaluate.model=[bm25,base]", "evaluate.fusion=rrf", "evaluate.baseline=base")
    assert fused.figures["system"] == "bm25 + base"
    assert fused.figures["difference"]["baseline"] == "base"
    assert set(fused.figures["difference"]["by_task"]) == {"nature", "physics", "average"}
    # What was written as a run file measures the same when it is read back.
    again = evaluate(f"evaluate.run={fused.path('run.trec')}")
    assert again.figures["scores"] == fused.figures["scores"]
    with pytest.raises(UserError, match="queries=rewritten needs a language model"):
        evaluate("evaluate.queries=rewritten")
    with pytest.raises(UserError, match="has no task 'chemistry'; its tasks: nature, physics"):
        evaluate("evaluate.tasks=[chemistry]")
    (tmp_path / "empty.trec").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        evaluate(f"evaluate.run={tmp_path / 'empty.trec'}")


def test_a_model_that_was_trained_here_says_what_it_has_seen(evaluate, finished):
    found = evaluate(name="trained").figures["leaks"]
    assert found["target_corpus_aware"]
    assert found["corpus_share"] == 1
    # ReMixer keeps away from what is judged; near-copies of documents there are, since all are built to one pattern.
    assert (found["questions_near"], found["gold_as_source_equal"]) == (0, 0)
    folder = finished.summary["artifacts"]["train"] + "/model"
    assert evaluate(f"evaluate.model=[bm25,{folder}]").figures["leaks"] == found
    assert "leaks" not in evaluate(name="base").figures
    page = storage.read_bytes(evaluate(name="trained").path("report.html")).decode()
    assert "target-corpus-aware" in page


def test_run_and_judgements_in_files(run_job, finished, tmp_path):
    qrels = {"query one": {"doc a": 2, "doc b": 1}, "two": {"doc c": 1}, "three": {"doc a": 1}}
    run = {"query one": {"doc b": 0.9, "doc x": 0.9, "doc a": 0.1}, "two": {"doc x": 1.0, "doc c": 0.5}}
    judged = tmp_path / "judged.qrels"
    judged.write_text("".join(f"{q}\t0\t{d}\t{g}\n" for q, ds in qrels.items() for d, g in ds.items()))
    ranked = tmp_path / "mine.run"
    ranked.write_text("".join(f"{q}\tQ0\t{d}\t1\t{s}\tme\n" for q, ds in run.items() for d, s in ds.items()))
    root = tmp_path / "runs"
    command = (finished.config, f"run.root={root}", f"evaluate.run={ranked}", f"evaluate.qrels={judged}")
    done = run_job("evaluate", *command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recip_rank"}).evaluate(run)
    for name, theirs_name in (("ndcg@10", "ndcg_cut_10"), ("mrr", "recip_rank")):
        total = sum(values[theirs_name] for values in theirs.values())
        assert result["scores"]["average"][name] == pytest.approx(total / 3, abs=1e-5)
        assert result["scores"]["judged"] == result["scores"]["average"]
        without = result["missing"]["scores_without_them"]["average"][name]
        assert without == pytest.approx(total / 2, abs=1e-5)
    assert result["missing"]["questions"] == 1

    # Two evaluations side by side, and ones that cannot be.
    ranked.write_text("query one\tQ0\tdoc a\t1\t1\tme\n")
    other = json.loads(run_job("evaluate", *command).stdout.splitlines()[-1])
    page = tmp_path / "compare.html"
    done = run_job("evaluate", "compare", result["artifact"], other["artifact"], "--to", page)
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout.splitlines()[-1])
    gain = other["scores"]["average"]["ndcg@10"] - result["scores"]["average"]["ndcg@10"]
    assert compared["difference"]["average"]["value"] == pytest.approx(gain, abs=1e-5)
    assert "<svg" in page.read_text()
    done = run_job("evaluate", "compare", result["artifact"], finished.summary["artifacts"]["evaluate base"])
    assert done.returncode == 2
    assert "only evaluations of the same questions can be compared" in done.stderr
    done = run_job("evaluate", "compare", result["artifact"], tmp_path)
    assert done.returncode == 2
    assert "is no finished evaluation" in done.stderr


def test_killed_while_encoding_at_most_a_block_per_actor_is_lost(tmp_path, tiny_model, run_job):
    folder = tmp_path / "many"
    words = ["rain", "river", "lake", "snow", "ice", "bell", "song", "drum"]
    folder.mkdir()
    count = 1200
    texts = [" ".join(words[(n // 8**k) % 8] for k in range(5)) + f" {n}" for n in range(count)]
    write_lines(folder / "documents.jsonl", [{"id": f"d {n}", "content": text} for n, text in enumerate(texts)])
    write_lines(folder / "examples.jsonl", [{"id": "q", "query": "rain", "excluded_ids": ["N/A"], "gold_ids": ["d 0"]}])
    root = tmp_path / "runs"
    config = write_config(tmp_path / "config.yaml", str(root), folder, tiny_model)
    block, actors = 50, 2
    command = ("evaluate", config, f"run.rows_per_block={block}", f"run.actors={actors}")
    process = start_job(*command)
    wait_for(lambda: len(list(root.glob("encode/*/.work/checkpoint-0/*.parquet"))) >= 4, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    [work] = root.glob("encode/*/.work")
    time.sleep(3)  # what Ray's workers were writing when their driver went
    written = sum(pq.ParquetFile(path).metadata.num_rows for path in work.glob("rows-0/*.parquet"))
    done = run_job(*command)
    assert done.returncode == 0, done.stderr
    [figures] = encodings(root).values()
    sys.__stdout__.write(f"\nkilled with {written} of {count} texts encoded; {figures['resumed']} of them were kept\n")
    assert figures["encoded"] + figures["resumed"] == figures["rows"] == count
    assert written - block * actors <= figures["resumed"] < count
    ids = artifacts.load(next(iter(encodings(root)))).table(schemas.EMBEDDINGS)["text_id"].to_pylist()
    assert len(set(ids)) == count


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("report", ["pipeline", "evaluate trained"])
def test_the_report_in_a_browser(chromium, finished, report, width):
    uri = (
        finished.result["artifact"] if report == "pipeline" else finished.summary["artifacts"][report] + "/report.html"
    )
    page = chromium.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(Path(uri).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width, "the page is wider than its window"
    assert page.locator("h1").bounding_box()["height"] > 0
    column = "[...document.querySelector('table.sortable').tBodies[0].rows].map(r => +r.cells[1].dataset.value)"
    heading = page.locator("table.sortable").first.locator("th").nth(1)
    heading.locator("button").click()
    values = page.evaluate(column)
    assert values == sorted(values, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    assert page.evaluate(column) == values[::-1] or values[0] == values[-1]
    page.locator("details").first.locator("summary").click()
    assert page.locator("details").first.locator("blockquote").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert said == []
    assert asked == [Path(uri).as_uri()]
    page.close()
