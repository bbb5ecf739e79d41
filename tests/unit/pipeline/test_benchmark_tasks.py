import subprocess
import sys

import pyarrow as pa
import pytest
from artifact_files import write_artifact

from reasonembed import schemas, storage
from reasonembed.config import Config
from reasonembed.corpora.tables import question_row
from reasonembed.errors import UserError
from reasonembed.ids import text_id
from reasonembed.pipeline.benchmark_tasks import evaluate_on_benchmark, rank_with_bm25, rank_with_model

TEXTS = ["red fox", "blue hen", "grey goose"]


@pytest.fixture
def benchmark(tmp_path):
    """Corpus and questions of a benchmark with one question, ``the hen``, whose gold document is ``d 1``."""
    columns = [["t"] * 3, ["d 0", "d 1", "d 2"], [""] * 3, TEXTS]
    corpus = write_artifact(tmp_path / "corpus", pa.table(columns, schema=schemas.CORPUS))
    rows = [question_row("t", "q", "the hen", "", {"d 1": 1})]
    questions = write_artifact(tmp_path / "questions", pa.Table.from_pylist(rows, schema=schemas.QUESTIONS))
    return corpus, questions


def test_bm25_ranks_the_questions_or_their_rewrites(benchmark, tmp_path):
    from reasonembed.remixer.rewrite import question_id

    folder = tmp_path / "ranking"
    assert rank_with_bm25(*benchmark, None, "count", str(folder)) == {"rows": 3}
    assert write_artifact(folder).table(schemas.RANKING)["doc_id"][0].as_py() == "d 1"
    rewrite = {"query_id": question_id("t", "q"), "reasoning_query": "a goose", "rewriter": "r"}
    rewrites = write_artifact(tmp_path / "rewrites", pa.Table.from_pylist([rewrite], schema=schemas.REWRITES))
    rank_with_bm25(*benchmark, rewrites, "count", str(folder))
    assert write_artifact(folder).table(schemas.RANKING)["doc_id"][0].as_py() == "d 2"


def test_an_evaluation_writes_measures_run_and_report(benchmark, tmp_path):
    corpus, questions = benchmark
    rank_with_bm25(corpus, questions, None, "count", str(tmp_path / "ranking"))
    ranking = write_artifact(tmp_path / "ranking")
    config = Config.model_validate({"evaluate": {"benchmark": "mine", "bootstrap": 100, "permutations": 100}})
    figures = evaluate_on_benchmark(
        "bm25", config, corpus, questions, ranking, ("same", ranking), None, {}, str(tmp_path / "evaluation")
    )
    assert (figures["rows"], figures["system"], figures["scores"]["t"]["mrr"]) == (1, "bm25", 1)
    assert figures["difference"]["by_task"]["average"]["value"] == 0
    assert "leaks" not in figures
    names = storage.list_files(str(tmp_path / "evaluation"))
    assert names == ["metrics.json", "per_query.parquet", "report.html", "run.trec"]


def test_embeddings_of_another_dimension_are_an_error(benchmark, tmp_path, tiny_model):
    rows = pa.table([[text_id(text) for text in TEXTS], [[1.0, 0.0]] * 3], schema=schemas.EMBEDDINGS)
    embeddings = write_artifact(tmp_path / "encode", rows)
    with pytest.raises(UserError, match=r"have 2 dimensions, model .* has 32; remove that folder"):
        rank_with_model(*benchmark, None, embeddings, str(tiny_model), Config().encode, "cpu", str(tmp_path / "r"))


def test_the_module_does_not_import_ray(repository):
    code = "import sys, reasonembed.pipeline.benchmark_tasks; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
