"""The stages at both ends of everything: documents, a benchmark's questions, and documents as vectors."""

import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.corpora import read_documents, read_questions, usable_documents
from reasonembed.corpora.bright import ORIGINAL
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.errors import JobFailed
from reasonembed.ids import digest
from reasonembed.pipeline.stage_runner import VERSIONS, StageRunner

REJECTED = "rejected.jsonl"


@dataclass(frozen=True)
class Model:
    """A model as stages refer to it: a label for people, where it is, and what stands for its content."""

    name: str
    place: str
    source: Artifact | str


class CorpusStages(StageRunner):
    def corpus(self) -> Artifact:
        """``schemas.CORPUS`` of the configured source."""
        return self.corpus_of(self.config.corpus.source, as_tuple(self.config.corpus.tasks))

    @cache  # noqa: B019 -- one pipeline a process
    def corpus_of(self, source: str, tasks: tuple[str, ...] | None) -> Artifact:
        """``schemas.CORPUS`` of any source, a benchmark's too."""
        documents = read_documents(source, tasks)
        table = usable_documents(documents)
        content = digest(
            *(cell for column in ("task", "doc_id", "title", "text") for cell in table[column].to_pylist())
        )

        def build(uri: str) -> dict[str, Any]:
            rejected = documents.filter(documents["reject_reason"].is_valid())
            rejects = counts_of(rejected["reject_reason"])
            if len(rejected) > self.config.run.max_reject_fraction * len(documents):
                top = "; ".join(f"{count} × {reason}" for reason, count in rejects.items())
                raise JobFailed(
                    f"corpus {source}: {len(rejected)} of {len(documents)} documents cannot be used, more than "
                    f"run.max_reject_fraction {self.config.run.max_reject_fraction:g} allows ({top})"
                )
            storage.write_table(table, storage.join(uri, "corpus.parquet"))
            if len(rejected):
                lines = [json.dumps(row) for row in rejected.select(["task", "doc_id", "reject_reason"]).to_pylist()]
                storage.write_bytes(storage.join(uri, REJECTED), "\n".join([*lines, ""]).encode())
            return {"rows": table.num_rows, "rejects": rejects, "documents": counts_of(table["task"])}

        return self._stage(
            "corpus", {"source": source, "tasks": tasks}, {"content": content}, build, label=f"corpus {source}"
        )

    @cache  # noqa: B019
    def questions(
        self, source: str, split: str, tasks: tuple[str, ...] | None = None, queries: str = ORIGINAL
    ) -> Artifact:
        """``schemas.QUESTIONS`` of a benchmark."""
        corpus = self.corpus_of(source, tasks)
        table = read_questions(source, split, corpus.table(schemas.CORPUS), tasks, queries)
        content = digest(*(str(row) for row in table.to_pylist()))

        def build(uri: str) -> dict[str, Any]:
            storage.write_table(table, storage.join(uri, "questions.parquet"))
            return {"rows": table.num_rows}

        config: dict[str, Any] = {"source": source, "split": split, "tasks": tasks}
        config |= {"queries": queries} if queries != ORIGINAL else {}
        return self._stage(
            "questions",
            config,
            {"corpus": corpus, "content": content},
            build,
            label=f"questions {source}, {split}",
            key=f"questions {source}" if source != self.config.corpus.source else "questions",
        )

    @cache  # noqa: B019
    def encode(self, corpus: Artifact, model: Model) -> Artifact:
        """``schemas.EMBEDDINGS`` of a corpus; shared by every stage that searches it with this model."""
        section = self.config.encode.model_dump(include={"max_tokens", "pooling"})

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.encoding import encode_corpus
            from reasonembed.distributed.data.workers import encode_worker

            place = self.config.cluster.encode
            worker = partial(encode_worker, model.place, self.config.encode, place.device)
            earlier = [
                artifact
                for artifact in artifacts.finished(self.config.run.root, "encode")
                if artifact.record["config"] == section
                and artifact.record["inputs"]["model"] == artifacts.recorded(model.source)
                and artifact.record["code_version"] == VERSIONS["encode"]
            ]
            table = corpus.table(schemas.CORPUS)
            return encode_corpus(table, worker, earlier, self.config.run, place, uri)

        inputs = {"corpus": corpus, "model": model.source}
        return self._stage(
            "encode", section, inputs, build, label=f"encode with {model.name}", key=f"encode {model.name}"
        )

    @cache  # noqa: B019
    def base_model(self) -> Model:
        return model_at("base", self.config.train.base_model)


def model_at(name: str, place: str) -> Model:
    """A model that no stage has made: a folder, a hub id or a package."""
    return Model(name, place, model_fingerprint(place))


def named_model(place: str) -> Model:
    return model_at(Path(place).name, place)


def as_tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values is not None else None


def counts_of(column: pa.ChunkedArray) -> dict[Any, int]:
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
