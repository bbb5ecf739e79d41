"""What other programs may rely on: bad input gives one line and exit code 2, and the last line is one JSON object."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from factories import write_bright, write_config

BAD_SETTINGS = {
    "unknown key": (["mine.kep=3"], "unknown key 'mine.kep'"),
    "wrong type": (["train.steps=many"], "train.steps"),
    "missing corpus": (["corpus.source=files:./nowhere"], "no such folder"),
    "unknown source": (["corpus.source=elastic:x"], "is not known"),
    "unknown task": (["corpus.tasks=[chemistry]"], "no task 'chemistry'"),
    "output root": (["run.root=/proc/nowhere"], "cannot be written"),
}


@pytest.fixture
def config(tmp_path, tiny_corpus) -> Path:
    return write_config(tmp_path / "config.yaml", str(tmp_path / "runs"), tiny_corpus, Path("unused"))


def assert_one_line(done, message):
    """Asserts that a job ends with exit code 2 and one line that contains the message."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert done.stdout == ""


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(run_job, config, case):
    overrides, message = BAD_SETTINGS[case]
    assert_one_line(run_job("corpus", config, *overrides), message)


def test_missing_config(run_job):
    assert_one_line(run_job("corpus", "nowhere.yaml"), "config file nowhere.yaml does not exist")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (None, "is empty"),
        ("{oops", "documents.jsonl, line 1: not JSON"),
        ('{"id": "a", "content": "x"}\n' * 2, "more than once"),
    ],
)
def test_bad_corpus(run_job, tmp_path, line, message):
    corpus = write_bright(tmp_path / "bright_tiny")
    for path in corpus.rglob("documents.jsonl"):
        path.write_text(line or "")
    config = write_config(tmp_path / "config.yaml", str(tmp_path / "runs"), corpus, Path("unused"))
    assert_one_line(run_job("corpus", config), message)


def test_gold_id_that_is_not_in_the_corpus(run_job, tmp_path):
    corpus = write_bright(tmp_path / "bright_tiny")
    (corpus / "nature" / "examples.jsonl").write_text(
        '{"id": "q", "query": "?", "gold_ids": ["nowhere"], "excluded_ids": []}\n'
    )
    config = write_config(tmp_path / "config.yaml", str(tmp_path / "runs"), corpus, Path("unused"))
    done = run_job("evaluate", config, "evaluate.model=bm25")
    assert done.returncode == 2
    assert "names gold document 'nowhere'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_missing_model(run_job, config):
    done = run_job("evaluate", config, "evaluate.model=./nowhere")
    assert done.returncode == 2
    assert "model ./nowhere: no such folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_serving_without_an_index(run_job, config):
    assert_one_line(run_job("serve", config), "run `make quickstart` first")


def test_the_last_line_is_json_and_a_second_run_reuses_the_artifact(run_job, config):
    first, second = run_job("corpus", config), run_job("corpus", config)
    assert first.returncode == second.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["stage"] == "corpus"
    assert result["rows"] == 64
    assert Path(result["artifact"], "_artifact.json").exists()
    assert second.stdout == first.stdout
    assert "nothing to do" in second.stderr


def test_the_environment_overrides_the_config_file(run_job, config, tmp_path):
    done = run_job("corpus", config, REASONEMBED_RUN__ROOT=str(tmp_path / "elsewhere"))
    assert json.loads(done.stdout)["artifact"].startswith(str(tmp_path / "elsewhere"))


def test_the_plan_estimates_the_cost_without_running_a_stage(run_job, config, tmp_path):
    overrides = [
        "cluster.profile=single-gpu",
        "llm.engine=vllm",
        "llm.model=Qwen/Qwen3-8B",
        "plan.price_per_gpu_hour=2.5",
    ]
    done = run_job("plan", config, *overrides)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    stages = {stage["stage"]: stage for stage in result["stages"]}
    assert list(stages) == ["generate", "rewrite", "annotate"]
    assert (stages["generate"]["calls"], stages["annotate"]["calls"]) == (40, 320)
    assert stages["annotate"]["input_tokens"] > 320 * 500
    assert result["cost"] == pytest.approx(result["gpu_hours"] * 2.5, abs=0.01)
    assert "GPU-hours" in done.stderr
    assert "annotate: typical lengths, estimated for 8B on 1 x H100" in done.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["corpus", "questions"]


def test_help_shows_the_arguments_of_a_job(run_job):
    done = run_job("train", "--help", COLUMNS="80")
    assert done.returncode == 0
    assert "section.key=value" in done.stdout


def test_no_file_of_the_repository_names_a_path_of_this_machine(repository):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.split()
    files = [repository / name for name in names if (repository / name).is_file()]
    assert len(files) > 100
    home = os.path.expanduser("~")
    for path in files:
        text = path.read_text(encoding="utf-8", errors="ignore")
        assert str(repository) not in text, path
        assert f"{home}/" not in text, path
