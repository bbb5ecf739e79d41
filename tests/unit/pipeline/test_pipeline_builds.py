"""The pipeline with toy stages and a backend in memory: what is built, when, and what its record says."""

import json

import pytest

from reasonembed import artifacts, storage
from reasonembed.artifacts import Artifact
from reasonembed.config import Config
from reasonembed.errors import JobFailed, UserError
from reasonembed.pipeline.pipeline import Pipeline
from reasonembed.pipeline.stage import Stage


class MemoryBackend:
    """Poses as the cluster: runs functions in this process and records the stages that asked for it."""

    def __init__(self):
        self.built = []

    def run_task(self, function, *arguments, resources=None):
        return function(*arguments)


def write_rows(build):
    build.backend.built.append(build.step.stage.name)
    build.backend.run_task(storage.write_bytes, storage.join(build.uri, "rows.txt"), b"x")
    return {"rows": 3, "rejects": {"bad": 1}}


def toy_stage(name, inputs=lambda pipeline: {}, **values):
    return Stage(name, values.pop("version", 1), inputs, values.pop("build", write_rows), **values)


FIRST = toy_stage("first", settings=("mine",))
SECOND = toy_stage("second", settings=("assemble.group_size",))
THIRD = toy_stage(
    "third",
    lambda pipeline: {"b": pipeline.step(SECOND), "a": pipeline.step(FIRST), "prompt": "hash"},
    settings=("run", "mine.keep"),
)
LAST = toy_stage("last", lambda pipeline: {"third": pipeline.step(THIRD), "first": pipeline.step(FIRST)})


@pytest.fixture
def make_pipeline(tmp_path):
    """Returns pipelines of one ``run.root`` with a common backend, each as a new process would have it."""
    backend = MemoryBackend()

    def make(**sections):
        values = {"run": {"root": str(tmp_path), **sections.pop("run", {})}, **sections}
        lines = []
        pipeline = Pipeline(Config.model_validate(values), backend, lines.append)
        pipeline.lines = lines
        return pipeline

    return make


def test_inputs_are_built_first_and_in_their_order(make_pipeline):
    pipeline = make_pipeline()
    artifact = pipeline.run(LAST)
    assert pipeline.backend.built == ["second", "first", "third", "last"]
    assert list(pipeline.artifacts) == ["second", "first", "third", "last"]
    assert pipeline.artifacts["last"] is artifact
    assert storage.list_files(artifact.uri) == [artifacts.RECORD, "rows.txt"]


def test_describing_a_step_builds_nothing(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    step = pipeline.step(LAST)
    assert step.fingerprint
    assert pipeline.step(LAST) is step
    assert pipeline.backend.built == []
    assert list(tmp_path.iterdir()) == []


def test_a_finished_step_is_not_built_again(make_pipeline):
    first = make_pipeline()
    artifact = first.run(LAST)
    assert first.run(LAST) is artifact
    second = make_pipeline()
    assert second.run(LAST).uri == artifact.uri
    assert second.backend.built == ["second", "first", "third", "last"]  # by the first pipeline
    assert list(second.artifacts) == ["second", "first", "third", "last"]
    assert second.lines[-1] == "last: done before, nothing to do, 3 rows, 1 rejected (1 bad)"
    assert all(": starting" not in line for line in second.lines)


def test_what_starts_and_ends_is_announced(make_pipeline):
    pipeline = make_pipeline()
    pipeline.run(FIRST)
    start, end = pipeline.lines
    assert start == "first: starting"
    assert end.startswith("first: ")
    assert end.endswith(", 3 rows, 1 rejected (1 bad)")


def changed_steps(before, after):
    stages = (FIRST, SECOND, THIRD, LAST)
    return {stage.name for stage in stages if before.step(stage).fingerprint != after.step(stage).fingerprint}


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({"mine": {"keep": 7}}, {"first", "third", "last"}),
        ({"mine": {"lexical_weight": 0.1}}, {"first", "third", "last"}),  # third through its input
        ({"assemble": {"group_size": 7}}, {"second", "third", "last"}),
        ({"assemble": {"batch_size": 7}}, set()),  # no stage reads it
        ({"run": {"seed": 7}}, {"third", "last"}),
        ({"run": {"actors": 7, "rows_per_block": 7}}, set()),  # resources
    ],
)
def test_row_settings_change_fingerprints_and_resources_do_not(make_pipeline, sections, changed):
    before, after = make_pipeline(), make_pipeline(**sections)
    assert changed_steps(before, after) == changed
    before.run(LAST)
    after.backend.built.clear()
    after.run(LAST)
    assert set(after.backend.built) == changed


def test_another_root_changes_no_fingerprint(make_pipeline, tmp_path):
    assert changed_steps(make_pipeline(), make_pipeline(run={"root": str(tmp_path / "other")})) == set()


def test_version_parameters_and_content_hashes_change_the_fingerprint(make_pipeline):
    pipeline = make_pipeline()
    stages = [
        toy_stage("one"),
        toy_stage("two"),
        toy_stage("one", version=2),
        toy_stage("one", lambda pipeline: {"prompt": "hash"}),
        toy_stage("one", lambda pipeline: {"prompt": "other"}),
        toy_stage("one", parameters=lambda pipeline: {"split": "dev"}),
    ]
    assert len({pipeline.step(stage).fingerprint for stage in stages}) == len(stages)
    details = toy_stage("one", details=lambda pipeline, inputs: {"note": "for the record"})
    assert pipeline.step(details).fingerprint == pipeline.step(stages[0]).fingerprint


def test_arguments_make_steps_of_their_own(make_pipeline):
    stage = toy_stage(
        "rank",
        lambda pipeline, system: {"first": pipeline.step(FIRST)},
        parameters=lambda pipeline, system: {"system": system},
        defaults=lambda config: ("bm25",),
        label=lambda pipeline, system: f"rank of {system}",
        key=lambda pipeline, system: f"rank-{system}",
    )
    pipeline = make_pipeline()
    assert pipeline.step(stage) is pipeline.step(stage, "bm25")
    assert pipeline.step(stage).fingerprint != pipeline.step(stage, "base").fingerprint
    pipeline.run(stage, "base")
    pipeline.run(stage)
    assert list(pipeline.artifacts) == ["first", "rank-base", "rank-bm25"]
    assert "rank of base: starting" in pipeline.lines
    assert pipeline.artifacts["rank-base"].record["row_settings"] == {"system": "base"}


def test_the_record_holds_settings_and_inputs(make_pipeline):
    stage = toy_stage(
        "noted",
        lambda pipeline: {"first": pipeline.step(FIRST), "prompt": "hash"},
        settings=("run", "mine.keep"),
        parameters=lambda pipeline: {"split": "dev"},
        details=lambda pipeline, inputs: {"note": "x"},
    )
    pipeline = make_pipeline(run={"actors": 5, "seed": 9}, mine={"keep": 7})
    artifact = pipeline.run(stage)
    record = json.loads(storage.read_bytes(storage.join(artifact.uri, artifacts.RECORD)))
    assert record["row_settings"] == {"split": "dev", "run": {"seed": 9}, "mine": {"keep": 7}}
    assert record["config"]["run"]["actors"] == 5
    assert (record["config"]["split"], record["config"]["note"]) == ("dev", "x")
    assert record["config"]["mine"] == {"keep": 7}
    first = pipeline.artifacts["first"]
    assert record["inputs"] == {"first": {"uri": first.uri, "fingerprint": first.fingerprint}, "prompt": "hash"}
    assert record["figures"] == {"rows": 3, "rejects": {"bad": 1}}
    assert record["fingerprint"] == pipeline.step(stage).fingerprint == artifact.fingerprint


def test_a_build_sees_its_inputs_that_are_artifacts(make_pipeline):
    inputs_of_build = {}

    def build(build):
        inputs_of_build.update(build.inputs)
        assert build.config is build.pipeline.config
        return {}

    pipeline = make_pipeline()
    inputs = lambda pipeline: {"first": pipeline.step(FIRST), "prompt": "hash"}  # noqa: E731
    pipeline.run(toy_stage("reading", inputs, build=build))
    assert inputs_of_build == {"first": pipeline.artifacts["first"]}


def test_a_finished_artifact_can_be_an_input(make_pipeline):
    pipeline = make_pipeline()
    earlier = Artifact("elsewhere", {"stage": "corpus", "fingerprint": "f"})
    other = Artifact("elsewhere", {"stage": "corpus", "fingerprint": "g"})
    stages = [toy_stage("reading", lambda pipeline, source=source: {"x": source}) for source in (earlier, other)]
    assert pipeline.step(stages[0]).fingerprint != pipeline.step(stages[1]).fingerprint
    artifact = pipeline.run(stages[0])
    assert artifact.record["inputs"] == {"x": {"uri": "elsewhere", "fingerprint": "f"}}


def test_built_and_found_artifacts_are_published(make_pipeline, tmp_path):
    published = []
    stage = toy_stage("index", publish=lambda root, artifact: published.append((root, artifact.uri)))
    uri = make_pipeline().run(stage).uri
    assert published == [(str(tmp_path), uri)]
    pipeline = make_pipeline()
    pipeline.run(stage)
    pipeline.run(stage)
    assert published == [(str(tmp_path), uri)] * 2


def test_a_failed_build_leaves_no_artifact_and_its_finished_inputs(make_pipeline):
    def failing(build):
        write_rows(build)
        raise JobFailed("too many rows were rejected")

    stage = toy_stage("failing", lambda pipeline: {"first": pipeline.step(FIRST)}, build=failing)
    pipeline = make_pipeline()
    with pytest.raises(JobFailed):
        pipeline.run(stage)
    assert list(pipeline.artifacts) == ["first"]
    again = make_pipeline()
    with pytest.raises(JobFailed):
        again.run(stage)
    assert again.backend.built == ["first", "failing", "failing"]


def test_a_root_that_cannot_be_written_is_an_error_before_anything_runs(make_pipeline, tmp_path):
    (tmp_path / "file").write_text("")
    pipeline = make_pipeline(run={"root": str(tmp_path / "file" / "runs")})
    with pytest.raises(UserError, match="file"):
        pipeline.run(FIRST)
    assert pipeline.backend.built == []


def test_a_stage_is_found_by_its_name(make_pipeline):
    with pytest.raises(KeyError, match="first"):
        make_pipeline().run("first")  # a toy stage is none of the pipeline's
