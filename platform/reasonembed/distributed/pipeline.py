"""The flow of data, stage by stage. Asking for a stage's artefact makes it, and before it whatever it needs.

A stage that is finished is found by its fingerprint and not run again, so that any job may be repeated after an
interruption and goes on where it was. Ray and torch are imported where they are first needed: a run in which everything
is finished already starts neither.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.corpora import evaluation_splits, pydocs, read_corpus, read_questions
from reasonembed.distributed.stage_runner import StageRunner
from reasonembed.embedder.source import model_fingerprint
from reasonembed.errors import JobFailed
from reasonembed.ids import digest

GENERATE_INPUT = f"{artifacts.SCRATCH}/sources.parquet"


@dataclass(frozen=True)
class Model:
    """A model as stages refer to it: a label for people, where it is, and what stands for its content."""

    name: str
    place: str
    source: Artifact | str


class Pipeline(StageRunner):
    """All stages of one configuration."""

    # ---- corpus and questions

    def corpus(self) -> Artifact:
        """``schemas.CORPUS`` of the configured source."""
        return self.corpus_of(self.config.corpus.source, _tuple(self.config.corpus.tasks))

    @cache  # noqa: B019 -- one pipeline a process
    def corpus_of(self, source: str, tasks: tuple[str, ...] | None) -> Artifact:
        """``schemas.CORPUS`` of any source, a benchmark's too."""
        table = read_corpus(source, tasks)
        content = digest(
            *(cell for column in ("task", "doc_id", "title", "text") for cell in table[column].to_pylist())
        )

        def build(uri: str) -> dict[str, Any]:
            storage.write_table(table, storage.join(uri, "corpus.parquet"))
            return {"rows": table.num_rows, "documents": _counts(table["task"])}

        return self._stage(
            "corpus", {"source": source, "tasks": tasks}, {"content": content}, build, label=f"corpus {source}"
        )

    @cache  # noqa: B019
    def questions(self, source: str, split: str, tasks: tuple[str, ...] | None = None) -> Artifact:
        """``schemas.QUESTIONS`` of a benchmark."""
        corpus = self.corpus_of(source, tasks)
        table = read_questions(source, split, corpus.table(schemas.CORPUS), tasks)
        content = digest(*(str(row) for row in table.to_pylist()))

        def build(uri: str) -> dict[str, Any]:
            storage.write_table(table, storage.join(uri, "questions.parquet"))
            return {"rows": table.num_rows}

        config = {"source": source, "split": split, "tasks": tasks}
        return self._stage(
            "questions", config, {"corpus": corpus, "content": content}, build, label=f"questions {source}, {split}"
        )

    # ---- training data

    @cache  # noqa: B019
    def generate(self) -> Artifact:
        from reasonembed.remixer.generate import select_sources, usable_queries

        config = self.config
        source = config.corpus.source
        corpus = self.corpus()
        tasks = _tuple(config.corpus.tasks)
        judged = [self.questions(source, split, tasks) for split in evaluation_splits(source)]

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.row_stage import row_figures
            from reasonembed.distributed.workers import generate_worker

            questions = pa.concat_tables(
                [schemas.QUESTIONS.empty_table(), *(q.table(schemas.QUESTIONS) for q in judged)]
            )
            table = corpus.table(schemas.CORPUS)
            sources = select_sources(table, questions, config.generate, config.run.seed)
            if sources.num_rows == 0:
                raise JobFailed(
                    f"generate: no document of corpus {source} can be a source (generate.min_chars "
                    f"{config.generate.min_chars} to max_chars {config.generate.max_chars}, not judged by a benchmark)"
                )
            path = storage.join(uri, GENERATE_INPUT)
            storage.write_table(sources, path)
            instructions = dict.fromkeys(pydocs.TASKS, pydocs.INSTRUCTION) if source == "pydocs" else {}
            worker = partial(generate_worker, config, instructions)
            self._rows("generate", worker, schemas.QUERIES, "query_id", [path], uri)
            figures = row_figures("generate", uri, config.run, schemas.QUERIES)
            written = storage.read_table([storage.join(uri, f) for f in storage.list_files(uri)], schemas.QUERIES)
            usable = usable_queries(written).num_rows
            if equal := figures["rows"] - usable:
                figures["rejects"]["equal to another query"] = equal
            return figures | {"rows": usable}

        section = {"generate": config.generate.model_dump(), "llm": config.llm.model_dump(), "seed": config.run.seed}
        inputs = {"corpus": corpus} | {f"judged-{q.record['config']['split']}": q for q in judged}
        return self._stage("generate", section, inputs, build)

    @cache  # noqa: B019
    def rewrite(self) -> Artifact:
        queries, materials = self.generate(), self._materials()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.row_stage import row_figures
            from reasonembed.distributed.workers import rewrite_worker
            from reasonembed.remixer.generate import usable_queries

            path = storage.join(uri, artifacts.SCRATCH, "queries.parquet")
            storage.write_table(usable_queries(queries.table(schemas.QUERIES)), path)
            self._rows(
                "rewrite", partial(rewrite_worker, self.config, materials), schemas.REWRITES, "query_id", [path], uri
            )
            return row_figures("rewrite", uri, self.config.run, schemas.REWRITES)

        section = {"rewrite": self.config.rewrite.model_dump(), "llm": self.config.llm.model_dump()}
        return self._stage("rewrite", section, {"queries": queries, "embeddings": materials.embeddings}, build)

    @cache  # noqa: B019
    def mine(self) -> Artifact:
        queries, materials = self.generate(), self._materials()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.row_stage import row_figures
            from reasonembed.distributed.workers import mine_worker
            from reasonembed.remixer.generate import usable_queries

            # Beside the artefact's folder: this stage has no checkpoint and clears its folder before it starts.
            path = storage.join(f"{uri}{artifacts.SCRATCH}", "queries.parquet")
            storage.write_table(usable_queries(queries.table(schemas.QUERIES)), path)
            self._rows("mine", partial(mine_worker, self.config.mine, materials), schemas.CANDIDATES, None, [path], uri)
            storage.delete_tree(f"{uri}{artifacts.SCRATCH}")
            return row_figures("mine", uri, self.config.run, schemas.CANDIDATES)

        section = self.config.mine.model_dump()
        return self._stage("mine", section, {"queries": queries, "embeddings": materials.embeddings}, build)

    @cache  # noqa: B019
    def annotate(self) -> Artifact:
        queries, candidates, materials = self.generate(), self.mine(), self._materials()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.row_stage import row_figures
            from reasonembed.distributed.workers import annotate_worker

            worker = partial(annotate_worker, self.config, materials, queries)
            self._rows("annotate", worker, schemas.ANNOTATIONS, "pair_id", candidates.parquet(), uri)
            files = [storage.join(uri, f) for f in storage.list_files(uri)]
            grades = storage.read_table(files, pa.schema([schemas.ANNOTATIONS.field("grade")]))["grade"]
            figures = row_figures("annotate", uri, self.config.run, schemas.ANNOTATIONS)
            return figures | {"grades": {str(grade): n for grade, n in sorted(_counts(grades.drop_null()).items())}}

        section = {"llm": self.config.llm.model_dump()}
        inputs = {"queries": queries, "candidates": candidates, "embeddings": materials.embeddings}
        return self._stage("annotate", section, inputs, build)

    @cache  # noqa: B019
    def assemble(self) -> Artifact:
        queries, rewrites, annotations = self.generate(), self.rewrite(), self.annotate()
        corpus = self.corpus()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.grouping import assemble_rows

            return assemble_rows(self.config, corpus, queries, rewrites, annotations, uri)

        inputs = {"corpus": corpus, "queries": queries, "rewrites": rewrites, "annotations": annotations}
        return self._stage("assemble", self.config.assemble.model_dump(), inputs, build)

    # ---- model, index, evaluation

    @cache  # noqa: B019
    def train(self) -> Artifact:
        training, base = self.assemble(), self._base_model()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.training import TrainJob, run_training

            job = TrainJob(training.parquet(), self.config.train, self.config.encode, self.config.run.seed)
            return run_training(job, uri)

        # A checkpoint more or less changes nothing in the result.
        section = self.config.train.model_dump(exclude={"checkpoint_steps", "base_model"})
        section |= {"seed": self.config.run.seed, "instruct": self.config.encode.instruct}
        return self._stage("train", section, {"training": training, "base_model": base.source}, build)

    @cache  # noqa: B019
    def encode(self, corpus: Artifact, model: Model) -> Artifact:
        """``schemas.EMBEDDINGS`` of a corpus; shared by every stage that searches it with this model."""

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.row_stage import row_figures
            from reasonembed.distributed.workers import encode_rows, encode_worker

            path = storage.join(uri, artifacts.SCRATCH, "texts.parquet")
            storage.write_table(encode_rows(corpus.table(schemas.CORPUS)), path)
            device = "cuda" if self.config.train.use_gpu else "cpu"
            worker = partial(encode_worker, model.place, self.config.encode, device)
            self._rows(
                "encode", worker, schemas.EMBEDDINGS, "row_id", [path], uri, num_gpus=float(self.config.train.use_gpu)
            )
            return row_figures("encode", uri, self.config.run, schemas.EMBEDDINGS)

        section = {"max_tokens": self.config.encode.max_tokens}
        inputs = {"corpus": corpus, "model": model.source}
        return self._stage(
            "encode", section, inputs, build, label=f"encode with {model.name}", key=f"encode {model.name}"
        )

    @cache  # noqa: B019
    def index(self) -> Artifact:
        corpus, model = self.corpus(), self._trained_model()
        embeddings = self.encode(corpus, model)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.session import run_remote
            from reasonembed.distributed.tasks import build_served_index

            return dict(run_remote(build_served_index, corpus, embeddings, uri))

        section = self.config.index.model_dump() | {"encode": self.config.encode.model_dump(), "model": model.place}
        return self._stage("index", section, {"corpus": corpus, "embeddings": embeddings, "model": model.source}, build)

    @cache  # noqa: B019
    def evaluate(self, name: str | None = None) -> Artifact:
        """One system (``evaluate.model`` unless named) on ``evaluate.benchmark``."""
        settings = self.config.evaluate
        name = name or settings.model
        source = settings.benchmark or self.config.corpus.source
        tasks = _tuple(settings.tasks)
        corpus = self.corpus_of(source, tasks)
        questions = self.questions(source, settings.split, tasks)
        inputs: dict[str, Artifact | str] = {"corpus": corpus, "questions": questions}
        model = embeddings = None
        if name != "bm25":
            model = self._model(name)
            embeddings = self.encode(corpus, model)
            inputs |= {"embeddings": embeddings, "model": model.source}
        config = self.config.model_copy(update={"evaluate": settings.model_copy(update={"benchmark": source})})

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.session import run_remote
            from reasonembed.distributed.tasks import evaluate_on

            place = model.place if model else None
            return dict(run_remote(evaluate_on, name, config, corpus, questions, embeddings, place, uri))

        section = {
            "system": name,
            "bootstrap": settings.bootstrap,
            "seed": self.config.run.seed,
            "encode": self.config.encode.model_dump(exclude={"batch_tokens"}),
        }
        return self._stage("evaluate", section, inputs, build, label=f"evaluate {name}", key=f"evaluate {name}")

    # ---- helpers

    def _materials(self) -> Any:
        from reasonembed.distributed.materials import Materials

        model = self._base_model()
        return Materials(self.corpus(), self.encode(self.corpus(), model), model.place, self.config.encode)

    @cache  # noqa: B019
    def _base_model(self) -> Model:
        name = self.config.train.base_model
        return Model("base", name, model_fingerprint(name))

    @cache  # noqa: B019
    def _trained_model(self) -> Model:
        trained = self.train()
        return Model("trained", storage.join(trained.uri, "model"), trained)

    def _model(self, name: str) -> Model:
        if name == "base":
            return self._base_model()
        if name == "trained":
            return self._trained_model()
        return Model(Path(name).name, name, model_fingerprint(name))


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values is not None else None


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
