"""ReMixer's stages: from a corpus to training rows."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import artifacts, schemas, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Sampling
from reasonembed.corpora import evaluation_splits, pydocs
from reasonembed.embedder.model_source import model_fingerprint
from reasonembed.errors import JobFailed
from reasonembed.pipeline.corpus_stages import CorpusStages, as_tuple, counts_of, named_model

# How a stage goes about its work, which changes nothing in its rows.
NOT_IN_FINGERPRINT = {
    "actors",
    "tensor_parallel",
    "concurrent_batches",
    "url",
    "api_key_env",
    "requests_per_second",
    "timeout_seconds",
    "http_retries",
    "model",
}


class RemixerStages(CorpusStages):
    @cache  # noqa: B019
    def clean(self) -> Artifact:
        """``schemas.CLEANED`` of the documents that may be sources."""
        corpus, judged = self.corpus(), self._judged()
        settings = self.config.clean

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.remixer.clean import CleanTask

            eligible = self.eligible()
            path = storage.join(uri, artifacts.SCRATCH, "eligible.parquet")
            storage.write_table(eligible, path)
            figures = self._ask("clean", partial(CleanTask, settings.subjects), settings, [path], uri)
            belongs = _column(uri, schemas.CLEANED, "belongs")
            return figures | {"belong": counts_of(belongs.drop_null()).get(True, 0)}

        section, inputs = self._llm_settings(settings)
        bounds = self.config.generate.model_dump(include={"min_chars", "max_chars"})
        return self._stage("clean", section | bounds, {"corpus": corpus} | judged | inputs, build)

    @cache  # noqa: B019
    def generate(self) -> Artifact:
        """``schemas.QUERIES``."""
        config = self.config
        settings = config.generate
        corpus, judged = self.corpus(), self._judged()
        cleaned = self.clean() if config.clean.enabled else None
        # Sampled conditions are for an engine that can follow them.
        seed = None if config.llm.engine == "extractive" else config.run.seed

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.workers import extractive_engine
            from reasonembed.remixer.generate import GenerateTask, QueryFilter, sample_sources

            questions = _questions(list(judged.values()))
            eligible = self.eligible()
            if cleaned:
                rows = cleaned.table(schemas.CLEANED)
                clean = rows.filter(pc.equal(rows["belongs"], True))["query_id"]
                eligible = eligible.filter(pc.is_in(eligible["query_id"], value_set=clean.combine_chunks()))
            sources = sample_sources(eligible, settings, config.run.seed)
            if sources.num_rows == 0:
                raise JobFailed(
                    f"generate: no document of corpus {config.corpus.source} can be a source (generate.min_chars "
                    f"{settings.min_chars} to max_chars {settings.max_chars}, not judged by a benchmark"
                    f"{', belonging to its task' if cleaned else ''})"
                )
            path = storage.join(uri, artifacts.SCRATCH, "sources.parquet")
            storage.write_table(sources, path)
            instructions = {row["task"]: row["instruction"] for row in questions.to_pylist() if row["instruction"]}
            if config.corpus.source == "pydocs":
                instructions |= dict.fromkeys(pydocs.TASKS, pydocs.INSTRUCTION)
            return self._ask(
                "generate",
                partial(GenerateTask, instructions, seed),
                settings,
                [path],
                uri,
                make_engine=partial(extractive_engine, None, config.llm.lexical_weight, config.rewrite.feedback_docs),
                finish=QueryFilter(questions["query"].to_pylist(), settings.near_question),
            )

        section, inputs = self._llm_settings(settings)
        inputs |= {"corpus": corpus} | judged | ({"cleaned": cleaned} if cleaned else {})
        return self._stage("generate", section | {"seed": config.run.seed}, inputs, build)

    @cache  # noqa: B019
    def rewrite(self) -> Artifact:
        """``schemas.REWRITES``."""
        queries, settings = self.generate(), self.config.rewrite
        engine, materials = self._extractive()
        reads = [self.corpus(), *materials.values()]

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.remixer.rewrite import RewriteTask

            path = _write_usable(queries, uri)
            return self._ask("rewrite", RewriteTask, settings, [path], uri, make_engine=engine, reads=reads)

        section, inputs = self._llm_settings(settings)
        return self._stage("rewrite", section, {"queries": queries} | inputs | materials, build)

    @cache  # noqa: B019
    def mine(self) -> Artifact:
        """``schemas.CANDIDATES``."""
        queries, settings, corpus = self.generate(), self.config.mine, self.corpus()
        models = [self.base_model() if name == "base" else named_model(name) for name in settings.models]
        materials = [self._materials(model) for model in models]

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.row_stage import RowStage, row_figures, run_row_stage, worker_pool
            from reasonembed.distributed.data.workers import mine_worker

            run = self.config.run
            reads = [corpus, *(each.embeddings for each in materials)]
            work = partial(mine_worker, settings, materials)
            pool = worker_pool(work, schemas.CANDIDATES, run.actors, reads=reads)
            stage = RowStage("mine", pool, schemas.CANDIDATES, "query_id", run.rows_per_block, then_by="rank")
            run_row_stage(stage, [_write_usable(queries, uri)], uri)
            return row_figures("mine", uri, run, schemas.CANDIDATES)

        inputs = {"queries": queries, "corpus": corpus}
        inputs |= {f"embeddings-{number}": each.embeddings for number, each in enumerate(materials)}
        return self._stage("mine", settings.model_dump(), inputs, build)

    @cache  # noqa: B019
    def annotate(self) -> Artifact:
        """``schemas.ANNOTATIONS``."""
        queries, candidates, corpus = self.generate(), self.mine(), self.corpus()
        settings = self.config.annotate
        engine, materials = self._extractive()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.workers import annotate_task

            task = partial(annotate_task, queries, corpus, settings.relevance)
            figures = self._ask(
                "annotate",
                task,
                settings,
                candidates.parquet(),
                uri,
                make_engine=engine,
                reads=[queries, corpus, *materials.values()],
                grades=settings.expected_grade,
            )
            grades = counts_of(_column(uri, schemas.ANNOTATIONS, "grade").drop_null())
            return figures | {"grades": {str(grade): n for grade, n in sorted(grades.items())}}

        section, inputs = self._llm_settings(settings)
        inputs |= {"queries": queries, "candidates": candidates, "corpus": corpus}
        return self._stage("annotate", section, inputs | materials, build)

    @cache  # noqa: B019
    def assemble(self) -> Artifact:
        """``schemas.TRAINING``."""
        queries, rewrites, annotations = self.generate(), self.rewrite(), self.annotate()
        corpus = self.corpus()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.data.assembly import assemble_rows

            return assemble_rows(self.config, corpus, queries, rewrites, annotations, uri)

        inputs = {"corpus": corpus, "queries": queries, "rewrites": rewrites, "annotations": annotations}
        return self._stage("assemble", self.config.assemble.model_dump(mode="json"), inputs, build)

    # ---- what the stages share

    def _judged(self) -> dict[str, Artifact]:
        """The questions of every benchmark that training data keeps away from, by the name of the input."""
        config = self.config
        own = config.corpus.source
        sources = [own, *config.generate.protect]
        if config.evaluate.benchmark and config.evaluate.benchmark not in sources:
            sources.append(config.evaluate.benchmark)
        found = {}
        for number, source in enumerate(sources):
            tasks = as_tuple(config.corpus.tasks) if source == own else None
            for split in evaluation_splits(source):
                found[f"judged-{number}-{split}"] = self.questions(source, split, tasks)
        return found

    def eligible(self) -> pa.Table:
        """``SOURCES`` that no protected benchmark judges."""
        from reasonembed.remixer.generate import eligible_sources, judged_texts

        protected: set[str] = set()
        for questions in self._judged().values():
            config = questions.record["config"]
            corpus = self.corpus_of(config["source"], as_tuple(config["tasks"])).table(schemas.CORPUS)
            protected |= judged_texts(corpus, questions.table(schemas.QUESTIONS))
        return eligible_sources(self.corpus().table(schemas.CORPUS), protected, self.config.generate)

    def _materials(self, model: Any) -> Any:
        from reasonembed.retrieval.embedded_corpus import EmbeddedCorpus

        corpus = self.corpus()
        return EmbeddedCorpus(model.name, corpus, self.encode(corpus, model), model.place, self.config.encode)

    def _extractive(self) -> tuple[Any, dict[str, Artifact]]:
        """The engine without a language model, to be made by the workers, and the artefact that its answers rest on."""
        llm = self.config.llm
        if llm.engine != "extractive":
            return None, {}
        from reasonembed.distributed.data.workers import extractive_engine

        materials = self._materials(self.base_model())
        engine = partial(extractive_engine, materials, llm.lexical_weight, self.config.rewrite.feedback_docs)
        return engine, {"embeddings": materials.embeddings}

    def _llm_settings(self, settings: Sampling) -> tuple[dict[str, Any], dict[str, Artifact | str]]:
        """What of the settings decides an LLM stage's rows, and what stands for the model and the prompts."""
        llm = self.config.llm
        if llm.engine == "extractive":
            own = settings.model_dump(exclude=set(Sampling.model_fields))
            return {"settings": own, "llm": {"engine": "extractive", "lexical_weight": llm.lexical_weight}}, {}
        from reasonembed.remixer.prompting import prompts_fingerprint

        section = {
            "settings": settings.model_dump(exclude={"model", "lora"}),
            "llm": llm.model_dump(exclude=NOT_IN_FINGERPRINT | {"lexical_weight"}),
            "seed": self.config.run.seed,
        }
        model = settings.model or llm.model or ""
        inputs: dict[str, Artifact | str] = {
            "prompts": prompts_fingerprint(),
            "model": _weights(model) if llm.engine == "vllm" else model,
        }
        if settings.lora:
            inputs["lora"] = _weights(settings.lora)
        return section, inputs

    def _ask(
        self,
        name: str,
        make_task: Any,
        settings: Sampling,
        inputs: list[str],
        uri: str,
        **more: Any,
    ) -> dict[str, Any]:
        from reasonembed.distributed.llm.attempt import engine_name
        from reasonembed.distributed.llm.llm_stage import LlmStage, run_llm_stage
        from reasonembed.llm.task_rows import TaskRows

        rows = TaskRows(make_task, engine_name(self.config.llm, settings))
        return run_llm_stage(LlmStage(name, rows, settings, **more), self.config, inputs, uri)


def _weights(model: str) -> str:
    """A folder's content; a hub id stands for itself: answers that were paid for outlive the model's next revision."""
    return model_fingerprint(model) if Path(model).is_dir() else model


def _questions(judged: list[Artifact]) -> pa.Table:
    return pa.concat_tables([schemas.QUESTIONS.empty_table(), *(each.table(schemas.QUESTIONS) for each in judged)])


def _write_usable(queries: Artifact, uri: str) -> str:
    from reasonembed.remixer.generate import usable_queries

    path = storage.join(uri, artifacts.SCRATCH, "queries.parquet")
    storage.write_table(usable_queries(queries.table(schemas.QUERIES)), path)
    return path


def _column(uri: str, schema: pa.Schema, name: str) -> pa.ChunkedArray:
    files = [storage.join(uri, file) for file in storage.list_files(uri)]
    return storage.read_table(files, pa.schema([schema.field(name)]))[name]
