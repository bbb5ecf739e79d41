"""The lineage of an artifact: what it was made from, according to the records of its inputs and of theirs."""

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.corpora.tables import texts_by_key
from reasonembed.evaluation.leaks import TrainingTexts
from reasonembed.remixer.assemble import usable_rows
from reasonembed.remixer.queries import usable_queries


def ancestors_by_stage(artifact: Artifact) -> dict[str, list[Artifact]]:
    """Returns the artifact and everything that it was made from, by stage, without what has been removed since."""
    by_uri: dict[str, Artifact] = {}
    pending = [artifact]
    while pending:
        current = pending.pop()
        if current.uri in by_uri:
            continue
        by_uri[current.uri] = current
        inputs = (current.find_input(name) for name in current.record["inputs"])
        pending += [source for source in inputs if source is not None]
    by_stage: dict[str, list[Artifact]] = {}
    for ancestor in by_uri.values():
        by_stage.setdefault(ancestor.stage, []).append(ancestor)
    return by_stage


def find_training(model: str) -> Artifact | None:
    """Returns the training whose artifact a model folder belongs to; None for a model from elsewhere.

    Args:
        model: folder of the model.
    """
    parent = artifacts.load(storage.absolute(model).rstrip("/").rsplit("/", 1)[0])
    return parent if parent is not None and parent.stage == "train" else None


def load_training_texts(training: Artifact) -> TrainingTexts | None:
    """Loads the texts that a model was trained on; None where the training rows have been removed.

    Args:
        training: an artifact of the stage ``train``.
    """
    ancestors = ancestors_by_stage(training)
    rows = ancestors.get("assemble", []) or ancestors.get("training_data", [])
    if not rows:
        return None
    table = usable_rows(rows[0].table(schemas.TRAINING))
    positives = [text for row in table["pos"].to_pylist() for text in row]
    # For ReMixer's data the training corpus is the corpus of its documents. A benchmark among the ancestors is not part
    # of it: the data was only checked against that.
    corpus = rows[0].find_input("corpus")
    if corpus is None:
        passages = positives + [text for row in table["neg"].to_pylist() for text in row]
        return TrainingTexts(table["query"].to_pylist(), (), positives, passages)
    texts = texts_by_key(corpus.table(schemas.CORPUS))
    queries = rows[0].find_input("queries")
    sources = usable_queries(queries.table(schemas.QUERIES)).to_pylist() if queries else []
    return TrainingTexts(
        queries=table["query"].to_pylist(),
        sources=[texts[row["task"], row["source_doc_id"]] for row in sources],
        positives=positives,
        corpus=list(texts.values()),
    )
