"""What an artefact was made of, by the records of its inputs and of theirs."""

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.corpora.tables import texts_by_key
from reasonembed.evaluation.leaks import TrainingTexts
from reasonembed.remixer.assemble import usable_rows
from reasonembed.remixer.generate import usable_queries


def ancestors(artifact: Artifact) -> dict[str, list[Artifact]]:
    """The artefact itself and all that went into it, by stage. What has been removed since is left out."""
    found: dict[str, Artifact] = {}
    waiting = [artifact]
    while waiting:
        here = waiting.pop()
        if here.uri in found:
            continue
        found[here.uri] = here
        waiting += [below for name in here.record["inputs"] if (below := here.find_input(name)) is not None]
    by_stage: dict[str, list[Artifact]] = {}
    for one in found.values():
        by_stage.setdefault(one.stage, []).append(one)
    return by_stage


def training_of(place: str) -> Artifact | None:
    """The training that left a model folder; None for a model from elsewhere."""
    found = artifacts.load(storage.absolute(place).rstrip("/").rsplit("/", 1)[0])
    return found if found is not None and found.stage == "train" else None


def training_texts(train: Artifact) -> TrainingTexts | None:
    """What a model was trained on; None where its training rows are gone."""
    made_of = ancestors(train)
    rows = made_of.get("assemble", []) or made_of.get("training_data", [])
    if not rows:
        return None
    table = usable_rows(rows[0].table(schemas.TRAINING))
    positives = [text for row in table["pos"].to_pylist() for text in row]
    # Of ReMixer's data the corpus is what the documents were drawn from; the benchmarks that it kept away from are not.
    drawn = rows[0].find_input("corpus")
    if drawn is None:
        passages = positives + [text for row in table["neg"].to_pylist() for text in row]
        return TrainingTexts(table["query"].to_pylist(), (), positives, passages)
    text_of = texts_by_key(drawn.table(schemas.CORPUS))
    queries = rows[0].find_input("queries")
    sources = usable_queries(queries.table(schemas.QUERIES)).to_pylist() if queries else []
    return TrainingTexts(
        queries=table["query"].to_pylist(),
        sources=[text_of[row["task"], row["source_doc_id"]] for row in sources],
        positives=positives,
        corpus=list(text_of.values()),
    )
