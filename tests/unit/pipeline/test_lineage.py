import shutil

import pyarrow as pa
import pytest
from artifact_files import write_artifact
from factories import training_rows

from reasonembed import schemas
from reasonembed.pipeline.lineage import ancestors_by_stage, find_training, load_training_texts


def table(schema, *rows):
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema=schema)


def query(number, **values):
    row = {"query_id": f"q{number}", "task": "t", "instruction": "", "query": f"query {number}", "generator": "g"}
    return row | {"source_doc_id": f"d {number}"} | values


@pytest.fixture
def training(tmp_path):
    """The artifacts of a training: corpus, queries (one of them rejected), training rows, batches, model."""
    texts = [["t"] * 3, ["d 0", "d 1", "d 2"], [""] * 3, ["text 0", "text 1", "text 2"]]
    corpus = write_artifact(tmp_path / "corpus", pa.table(texts, schema=schemas.CORPUS))
    rows = [query(0), query(1), query(2, reject_reason="bad")]
    queries = write_artifact(tmp_path / "generate", table(schemas.QUERIES, *rows), inputs={"corpus": corpus})
    assembled = table(schemas.TRAINING, *training_rows(4))
    inputs = {"corpus": corpus, "queries": queries}
    rows = write_artifact(tmp_path / "assemble", assembled, inputs=inputs)
    batches = write_artifact(tmp_path / "batches", inputs={"training": rows})
    return write_artifact(tmp_path / "train", inputs={"batches": batches, "corpus": corpus})


def test_ancestors_are_found_once_each_and_removed_ones_are_left_out(training, tmp_path):
    stages = ancestors_by_stage(training)
    assert {stage: len(artifacts) for stage, artifacts in stages.items()} == dict.fromkeys(
        ("train", "batches", "assemble", "generate", "corpus"), 1
    )
    shutil.rmtree(tmp_path / "generate")
    assert set(ancestors_by_stage(training)) == {"train", "batches", "assemble", "corpus"}


def test_the_training_of_a_model_folder(training, tmp_path):
    assert find_training(f"{training.uri}/model/").uri == training.uri
    assert find_training(f"{tmp_path}/corpus/model") is None
    assert find_training("org/model") is None


def test_training_texts_of_remixers_data(training):
    texts = load_training_texts(training)
    expected = sorted(training_rows(4), key=lambda row: row["query_id"])
    assert texts.queries == [row["query"] for row in expected]
    assert texts.positives == [text for row in expected for text in row["pos"]]
    assert texts.sources == ["text 0", "text 1"]
    assert texts.corpus == ["text 0", "text 1", "text 2"]


def test_training_texts_of_other_data_and_of_removed_data(tmp_path):
    rows = write_artifact(tmp_path / "training_data", table(schemas.TRAINING, *training_rows(2)))
    training = write_artifact(tmp_path / "train", inputs={"training": rows})
    texts = load_training_texts(training)
    assert (len(texts.queries), len(texts.sources), len(texts.positives), len(texts.corpus)) == (2, 0, 4, 14)
    shutil.rmtree(tmp_path / "training_data")
    assert load_training_texts(training) is None
