"""Evaluation with the real engines: Ray Data and torch encode, run files are measured, a browser opens the report."""

import json
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytrec_eval
import ray
import torch
from browser import running_browser
from factories import load_pipeline, write_config, write_lines
from processes import kill, start_job, wait_for
from safetensors.torch import load_file, save_file

from reasonembed import artifacts, schemas, storage
from reasonembed.distributed.ray_errors import expected_error
from reasonembed.errors import UserError
from reasonembed.pipeline.evaluation_stages import configured_evaluation


@pytest.fixture(scope="module")
def evaluate(pipeline_run):
    """A function that evaluates with the pipeline run's config and overrides; it raises errors as jobs show them."""

    def run(*overrides, system=None):
        pipeline = load_pipeline(pipeline_run.config, *overrides)
        try:
            return pipeline.run("evaluate", system) if system else pipeline.build(configured_evaluation(pipeline))
        except Exception as raised:
            error = expected_error(raised)
            if error is None:
                raise
            raise error from None

    yield run
    ray.shutdown()


def encodings(root):
    """Figures of the finished encodings of a run, by URI."""
    return {artifact.uri: artifact.figures for artifact in artifacts.finished(str(root), "encode")}


def copy_model(model, folder, change):
    """Copies a model folder with changed weights."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_no_text_is_encoded_twice(evaluate, pipeline_run, tiny_corpus, tmp_path):
    before = encodings(pipeline_run.root)
    evaluate("evaluate.bootstrap=200")
    assert encodings(pipeline_run.root) == before
    # Of another corpus one text is new; the vectors of the others are reused.
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    with (corpus / "nature" / "documents.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "content": "A text that has no vector yet."}) + "\n")
        file.write(json.dumps({"id": "copy", "content": "A text that has no vector yet."}) + "\n")
    evaluation = evaluate(f"evaluate.benchmark=bright:{corpus}")
    [(uri, figures)] = [(uri, f) for uri, f in encodings(pipeline_run.root).items() if uri not in before]
    assert (figures["encoded"], figures["resumed"]) == (1, 0)
    assert figures["cached"] == figures["rows"] - 1 == 64
    vectors = artifacts.load(uri).table(schemas.EMBEDDINGS)
    assert vectors.num_rows == 65
    assert evaluation.figures["scores"]["average"]["recall@1000"] == 1


def test_a_model_is_identified_by_its_weights(evaluate, pipeline_run, tiny_model, tmp_path):
    model = copy_model(tiny_model, tmp_path / "model", lambda weights: {})
    before = encodings(pipeline_run.root)
    evaluate(f"evaluate.model={model}")
    assert encodings(pipeline_run.root) == before, "the same weights in another folder"
    shutil.rmtree(model)
    key = "embeddings.word_embeddings.weight"
    copy_model(tiny_model, model, lambda weights: {key: weights[key].flip(0)})
    evaluate(f"evaluate.model={model}")
    [figures] = [figures for uri, figures in encodings(pipeline_run.root).items() if uri not in before]
    assert (figures["encoded"], figures["cached"]) == (64, 0)


def test_vectors_that_are_not_finite_are_an_error(evaluate, tiny_model, tmp_path):
    key = "embeddings.LayerNorm.weight"
    model = copy_model(
        tiny_model, tmp_path / "model", lambda weights: {key: torch.full_like(weights[key], float("nan"))}
    )
    with pytest.raises(UserError, match="not finite numbers, first for the text"):
        evaluate(f"evaluate.model={model}")


def test_cached_vectors_of_another_dimension_are_an_error(evaluate, pipeline_run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(pipeline_run.root / "encode", root / "encode")
    shutil.copytree(pipeline_run.root / "corpus", root / "corpus")
    for path in root.glob("encode/*/*/part-*.parquet"):
        table = pq.read_table(path)
        vectors = [vector[:16] for vector in table["embedding"].to_pylist()]
        pq.write_table(pa.table([table["text_id"], vectors], schema=schemas.EMBEDDINGS), path)
    with pytest.raises(UserError, match=r"have 16 dimensions, model .* has 32; remove that folder"):
        evaluate(f"run.root={root}")


def test_fusion_of_systems_and_evaluation_of_its_run_file(evaluate, pipeline_run, tmp_path):
    fused = evaluate("evaluate.model=[bm25,base]", "evaluate.fusion=rrf", "evaluate.baseline=base")
    assert fused.figures["system"] == "bm25 + base"
    assert fused.figures["difference"]["baseline"] == "base"
    assert set(fused.figures["difference"]["by_task"]) == {"nature", "physics", "average"}
    # The run file has the same scores as the ranking that it was written from.
    measured = evaluate(f"evaluate.run={fused.path('run.trec')}")
    assert measured.figures["scores"] == fused.figures["scores"]
    with pytest.raises(UserError, match="queries=rewritten needs a language model"):
        evaluate("evaluate.queries=rewritten")
    with pytest.raises(UserError, match="has no task 'chemistry'; its tasks: nature, physics"):
        evaluate("evaluate.tasks=[chemistry]")
    (tmp_path / "empty.trec").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        evaluate(f"evaluate.run={tmp_path / 'empty.trec'}")


def test_a_model_trained_here_reports_its_leaks(evaluate, pipeline_run):
    leaks = evaluate(system="trained").figures["leaks"]
    assert leaks["target_corpus_aware"]
    assert leaks["corpus_share"] == 1
    # ReMixer avoids judged documents. Near-duplicates of documents exist, because all are written to one pattern.
    assert (leaks["questions_near"], leaks["gold_as_source_equal"]) == (0, 0)
    folder = pipeline_run.summary["artifacts"]["train"] + "/model"
    assert evaluate(f"evaluate.model=[bm25,{folder}]").figures["leaks"] == leaks
    assert "leaks" not in evaluate(system="base").figures
    page = storage.read_bytes(evaluate(system="trained").path("report.html")).decode()
    assert "target-corpus-aware" in page


def test_run_file_and_qrels_file(run_job, pipeline_run, tmp_path):
    qrels = {"query one": {"doc a": 2, "doc b": 1}, "two": {"doc c": 1}, "three": {"doc a": 1}}
    run = {"query one": {"doc b": 0.9, "doc x": 0.9, "doc a": 0.1}, "two": {"doc x": 1.0, "doc c": 0.5}}
    qrels_file = tmp_path / "judged.qrels"
    qrels_file.write_text("".join(f"{q}\t0\t{d}\t{g}\n" for q, ds in qrels.items() for d, g in ds.items()))
    run_file = tmp_path / "mine.run"
    run_file.write_text("".join(f"{q}\tQ0\t{d}\t1\t{s}\tme\n" for q, ds in run.items() for d, s in ds.items()))
    root = tmp_path / "runs"
    command = (pipeline_run.config, f"run.root={root}", f"evaluate.run={run_file}", f"evaluate.qrels={qrels_file}")
    done = run_job("evaluate", *command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    oracle = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recip_rank"}).evaluate(run)
    for name, oracle_name in (("ndcg@10", "ndcg_cut_10"), ("mrr", "recip_rank")):
        total = sum(values[oracle_name] for values in oracle.values())
        assert result["scores"]["average"][name] == pytest.approx(total / 3, abs=1e-5)
        assert result["scores"]["judged"] == result["scores"]["average"]
        without = result["missing"]["scores_without_them"]["average"][name]
        assert without == pytest.approx(total / 2, abs=1e-5)
    assert result["missing"]["questions"] == 1

    # Comparisons of two evaluations; the second and third are errors.
    run_file.write_text("query one\tQ0\tdoc a\t1\t1\tme\n")
    other = json.loads(run_job("evaluate", *command).stdout.splitlines()[-1])
    page = tmp_path / "compare.html"
    done = run_job("evaluate", "compare", result["artifact"], other["artifact"], "--to", page)
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout.splitlines()[-1])
    gain = other["scores"]["average"]["ndcg@10"] - result["scores"]["average"]["ndcg@10"]
    assert comparison["difference"]["average"]["value"] == pytest.approx(gain, abs=1e-5)
    assert "<svg" in page.read_text()
    done = run_job("evaluate", "compare", result["artifact"], pipeline_run.summary["artifacts"]["evaluate base"])
    assert done.returncode == 2
    assert "only evaluations of the same questions can be compared" in done.stderr
    done = run_job("evaluate", "compare", result["artifact"], tmp_path)
    assert done.returncode == 2
    assert "is no finished evaluation" in done.stderr


@pytest.mark.extended
def test_an_encoding_that_is_killed_loses_at_most_a_block_per_actor(tmp_path, tiny_model, run_job):
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
    kill(process)
    [scratch] = root.glob("encode/*/.work")
    time.sleep(3)  # Ray's workers finish the files that they are writing
    written = sum(pq.ParquetFile(path).metadata.num_rows for path in scratch.glob("rows-0/*.parquet"))
    done = run_job(*command)
    assert done.returncode == 0, done.stderr
    [figures] = encodings(root).values()
    sys.__stdout__.write(f"\nkilled with {written} of {count} texts encoded; {figures['resumed']} were reused\n")
    assert figures["encoded"] + figures["resumed"] == figures["rows"] == count
    assert written - block * actors <= figures["resumed"] < count
    ids = artifacts.load(next(iter(encodings(root)))).table(schemas.EMBEDDINGS)["text_id"].to_pylist()
    assert len(set(ids)) == count


@pytest.fixture(scope="module")
def chromium():
    with running_browser() as browser:
        yield browser


@pytest.mark.extended
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("report", ["pipeline", "evaluate trained"])
def test_the_report_works_in_a_browser(chromium, pipeline_run, report, width):
    reports = {name: f"{uri}/report.html" for name, uri in pipeline_run.summary["artifacts"].items()}
    url = Path((reports | {"pipeline": pipeline_run.result["artifact"]})[report]).as_uri()
    page = chromium.new_page(viewport={"width": width, "height": 900})
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
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
    assert messages == []
    assert requests == [url]
    page.close()
