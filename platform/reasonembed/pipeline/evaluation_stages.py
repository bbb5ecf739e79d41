"""The stages that judge: a system's ranking of a benchmark's questions, and its measures."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from reasonembed import schemas, storage
from reasonembed.artifacts import SCRATCH, Artifact, git_commit, versions
from reasonembed.config import Config
from reasonembed.corpora.bright import ORIGINAL
from reasonembed.errors import UserError
from reasonembed.ids import digest
from reasonembed.pipeline.corpus_stages import as_tuple
from reasonembed.pipeline.training_stages import TrainingStages
from reasonembed.remixer.rewrite import question_rows

BM25 = {"bm25": "count", "bm25-query-side": "bm25"}
REWRITTEN = "rewritten"


class EvaluationStages(TrainingStages):
    def evaluate(self, name: str | None = None) -> Artifact:
        """One system (what ``evaluate`` says, unless named) on ``evaluate.benchmark``."""
        settings = self.config.evaluate
        if name is not None:
            return self._evaluate(name, lambda: self.ranking(name), (name,))
        if settings.run and settings.qrels:
            return self._evaluate_files(settings.run, settings.qrels)
        if settings.run:
            run = settings.run
            return self._evaluate(_file_name(run), lambda: self._ranking_in(run), ())
        systems = settings.systems
        if len(systems) == 1:
            return self.evaluate(systems[0])
        return self._evaluate(" + ".join(systems), lambda: self._fused(systems), systems)

    @cache  # noqa: B019
    def ranking(self, name: str) -> Artifact:
        """``schemas.RANKING`` of a system."""
        corpus, questions = self._benchmark()
        inputs: dict[str, Artifact | str] = {"corpus": corpus, "questions": questions}
        rewritten = self._rewritten_questions() if self.config.evaluate.queries == REWRITTEN else None
        if rewritten is not None:
            inputs["rewritten"] = rewritten
        if name in BM25:

            def build(uri: str) -> dict[str, Any]:
                from reasonembed.distributed.cluster import run_remote
                from reasonembed.pipeline.benchmark_tasks import rank_with_bm25

                return dict(run_remote(rank_with_bm25, corpus, questions, rewritten, BM25[name], uri))

            return self._stage("rank", {"system": name}, inputs, build, label=f"rank with {name}", key=f"rank {name}")
        model = self.model(name)
        embeddings = self.encode(corpus, model)
        encode, place = self.config.encode, self.config.cluster.encode

        def build_dense(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.cluster import run_remote
            from reasonembed.pipeline.benchmark_tasks import rank_with_model

            arguments = (
                corpus,
                questions,
                rewritten,
                embeddings,
                model.place,
                encode,
                place.device,
                uri,
            )
            return dict(run_remote(rank_with_model, *arguments, place=place))

        section = {"system": "dense", "encode": encode.model_dump(exclude={"batch_tokens"})}
        inputs |= {"embeddings": embeddings, "model": model.source}
        return self._stage("rank", section, inputs, build_dense, label=f"rank with {name}", key=f"rank {name}")

    # ---- rankings that no system makes

    def _fused(self, systems: tuple[str, ...]) -> Artifact:
        settings = self.config.evaluate
        rankings = [self.ranking(name) for name in systems]
        weights = settings.fusion_weights or [1 / len(systems)] * len(systems)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.evaluation.ranking import RANKING_FILE, fuse_rankings

            fused = fuse_rankings([r.table(schemas.RANKING) for r in rankings], settings.fusion, weights)
            storage.write_table(fused, storage.join(uri, RANKING_FILE))
            return {"rows": fused.num_rows}

        inputs: dict[str, Artifact | str] = {f"ranking-{number}": ranking for number, ranking in enumerate(rankings)}
        section = {"fusion": settings.fusion, "weights": weights}
        return self._stage("rank", section, inputs, build, label="fuse " + " + ".join(systems), key="rank fused")

    def _ranking_in(self, run: str) -> Artifact:
        from reasonembed.evaluation.ranking import RANKING_FILE
        from reasonembed.evaluation.trec import ranking_of, read_run

        _, questions = self._benchmark()
        ranking = ranking_of(read_run(run), questions.table(schemas.QUESTIONS), run)

        def build(uri: str) -> dict[str, Any]:
            storage.write_table(ranking, storage.join(uri, RANKING_FILE))
            return {"rows": ranking.num_rows}

        inputs: dict[str, Artifact | str] = {"questions": questions, "run": _content(run)}
        return self._stage("rank", {"run": True}, inputs, build, label=f"read run {run}", key=f"rank {run}")

    # ---- the measures

    def _evaluate(self, name: str, make_ranking: Callable[[], Artifact], systems: tuple[str, ...]) -> Artifact:
        settings = self.config.evaluate
        corpus, questions = self._benchmark()
        ranking = make_ranking()
        inputs: dict[str, Artifact | str] = {"corpus": corpus, "questions": questions, "ranking": ranking}
        baseline = None
        if settings.baseline and systems != (settings.baseline,):
            is_file = storage.is_file(settings.baseline)
            baseline = self._ranking_in(settings.baseline) if is_file else self.ranking(settings.baseline)
            inputs["baseline"] = baseline
        training = self._training_behind(systems)
        if training is not None:
            inputs["training"] = training
        config = self._told()

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.distributed.cluster import run_remote
            from reasonembed.pipeline.benchmark_tasks import evaluate_on

            base = (_file_name(settings.baseline or ""), baseline) if baseline is not None else None
            arguments = (name, config, corpus, questions, ranking, base, training, _origin(), uri)
            return dict(run_remote(evaluate_on, *arguments))

        return self._stage(
            "evaluate", self._section(name), inputs, build, label=f"evaluate {name}", key=f"evaluate {name}"
        )

    def _evaluate_files(self, run: str, qrels: str) -> Artifact:
        """A run by the judgements in a file: neither corpus nor questions are known."""
        from reasonembed.evaluation import trec

        settings = self.config.evaluate
        task = _file_name(qrels)
        questions = trec.questions_of(trec.read_qrels(qrels), task)
        ranking = trec.ranking_of(trec.read_run(run), questions, run)
        inputs: dict[str, Artifact | str] = {"run": _content(run), "qrels": _content(qrels)}
        if settings.baseline:
            inputs["baseline"] = _content(settings.baseline)
        name = _file_name(run)

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.evaluation.evaluate import Baseline, Benchmark, evaluate_ranking

            base = None
            if settings.baseline:
                found = trec.ranking_of(trec.read_run(settings.baseline), questions, settings.baseline)
                base = Baseline(_file_name(settings.baseline), found)
            benchmark = Benchmark(task, questions, None)
            result = evaluate_ranking(name, ranking, benchmark, self.config, uri, base, origin=_origin())
            return {"rows": questions.num_rows, **result}

        section = self._section(name) | {"benchmark": task}
        return self._stage("evaluate", section, inputs, build, label=f"evaluate {name} by {task}")

    # ---- helpers

    def _benchmark(self) -> tuple[Artifact, Artifact]:
        """Corpus and questions."""
        settings = self.config.evaluate
        source = settings.benchmark or self.config.corpus.source
        tasks = as_tuple(settings.tasks)
        own = ORIGINAL if settings.queries == REWRITTEN else settings.queries
        return self.corpus_of(source, tasks), self.questions(source, settings.split, tasks, own)

    @cache  # noqa: B019
    def _rewritten_questions(self) -> Artifact:
        """``schemas.REWRITES`` of the benchmark's questions, by the language model of ``rewrite``."""
        if self.config.llm.engine == "extractive":
            raise UserError(
                "evaluate.queries=rewritten needs a language model: set llm.engine to vllm or http, and llm.model"
            )
        _, questions = self._benchmark()
        settings = self.config.rewrite

        def build(uri: str) -> dict[str, Any]:
            from reasonembed.remixer.rewrite import RewriteTask

            path = storage.join(uri, SCRATCH, "questions.parquet")
            storage.write_table(question_rows(questions.table(schemas.QUESTIONS)), path)
            return self._ask("rewrite", RewriteTask, settings, [path], uri)

        section, inputs = self._llm_settings(settings)
        return self._stage(
            "rewrite", section, {"questions": questions} | inputs, build, "rewrite questions", "rewritten"
        )

    def _training_behind(self, systems: tuple[str, ...]) -> Artifact | None:
        """The training of the first of the systems that was trained here."""
        from reasonembed.pipeline.lineage import training_of

        for model in (self.model(name) for name in systems if name not in BM25):
            found = model.source if isinstance(model.source, Artifact) else training_of(model.place)
            if found is not None:
                return found
        return None

    def _told(self) -> Config:
        """The configuration as the report shows it, with the benchmark that was meant."""
        config, settings = self.config, self.config.evaluate
        named = settings.model_copy(update={"benchmark": settings.benchmark or config.corpus.source})
        return config.model_copy(update={"evaluate": named})

    def _section(self, name: str) -> dict[str, Any]:
        settings = self.config.evaluate
        return {
            "system": name,
            "benchmark": settings.benchmark or self.config.corpus.source,
            "queries": settings.queries,
            "bootstrap": settings.bootstrap,
            "permutations": settings.permutations,
            "seed": self.config.run.seed,
        }


def _file_name(place: str) -> str:
    """A name for what a file holds; of anything else the thing itself."""
    return place.rsplit("/", 1)[-1].rsplit(".", 1)[0] if storage.is_file(place) else place


def _content(place: str) -> str:
    try:
        return digest(storage.read_bytes(place).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        raise UserError(f"{place} does not exist") from None


def _origin() -> dict[str, Any]:
    finished = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {"finished": finished, "git_commit": git_commit(), "versions": versions()}
