"""``cluster/``: what would be said to each file by those who read it, and whether the work fits the machines."""

import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from manifests import POOLS, check_manifest
from ray_up_configs import check_ray_up
from typos import refused, typos

from reasonembed.config import load_config
from reasonembed.config.resources import POOL, PROFILES

RAY_UP = ["aws.yaml", "gcp.yaml"]
KUBERAY = ["raycluster.yaml", "rayjob-data.yaml", "rayjob-train.yaml", "rayservice.yaml"]
PLAIN = ["common.yaml", "monitoring.yaml"]
RECIPES = ["reasonembed-qwen3-4b.yaml", "reasonembed-qwen3-8b.yaml", "reasonembed-llama-3.1-8b.yaml"]


def documents(place):
    return list(yaml.safe_load_all(place.read_text()))


def cluster_of(manifest):
    return getattr(manifest.spec, "rayClusterSpec", getattr(manifest.spec, "rayClusterConfig", manifest.spec))


# ---- `ray up`


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_takes_the_file(repository, name):
    prepared = check_ray_up(*documents(repository / "cluster" / name))
    kinds = prepared["available_node_types"]
    assert {kind["labels"][POOL] for kind in kinds.values()} == POOLS
    assert kinds[prepared["head_node_type"]]["resources"]["CPU"] == 0
    assert all(kind["min_workers"] == 0 for kind in kinds.values())
    start = " ".join(prepared["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in prepared["docker"]["run_options"]


@pytest.mark.parametrize("name", RAY_UP)
def test_no_misspelt_key_of_ray_up_goes_unseen(repository, name):
    (written,) = documents(repository / "cluster" / name)
    check_ray_up(written)
    found = [where for where, wrong in typos(written) if not refused(check_ray_up, wrong)]
    assert not found


@pytest.mark.parametrize("name", RAY_UP)
def test_the_recipes_fit_the_machines_of_ray_up(repository, name):
    (written,) = documents(repository / "cluster" / name)
    room = {
        kind["labels"][POOL]: (kind["resources"]["CPU"], kind["resources"].get("GPU", 0), kind.get("max_workers", 0))
        for kind in written["available_node_types"].values()
    }
    for recipe in RECIPES:
        assert_fits(load_config(repository / "jobs/configs" / recipe, [], {}), room)


# ---- KubeRay


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_takes_the_file_and_pods_are_kept_in(repository, name):
    (document,) = documents(repository / "cluster/kuberay" / name)
    cluster = cluster_of(check_manifest(document))
    assert cluster.headGroupSpec.rayStartParams["num-cpus"] == "0"
    for template in cluster.templates:
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["serviceAccountName"] == "reasonembed"
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert not any("value" in variable for variable in container.get("env", []))
    for group in cluster.workerGroupSpecs:
        spec = group.template["spec"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]
        if "nvidia.com/gpu" in group.limits:
            assert any(each["key"] == "nvidia.com/gpu" for each in spec["tolerations"])


@pytest.mark.parametrize("name", KUBERAY + PLAIN)
def test_no_misspelt_key_of_kuberay_goes_unseen(repository, name):
    found = []
    for document in documents(repository / "cluster/kuberay" / name):
        check_manifest(document)
        found += [where for where, wrong in typos(document) if not refused(check_manifest, wrong)]
    assert not found


def test_the_recipes_fit_the_machines_of_kuberay(repository):
    (document,) = documents(repository / "cluster/kuberay/raycluster.yaml")
    room = {
        group.groupName: (int(group.limits["cpu"]), int(group.limits.get("nvidia.com/gpu", 0)), group.maxReplicas)
        for group in check_manifest(document).spec.workerGroupSpecs
    }
    for recipe in RECIPES:
        assert_fits(load_config(repository / "jobs/configs" / recipe, [], {}), room)


@pytest.mark.parametrize("name", ["rayjob-data.yaml", "rayjob-train.yaml"])
def test_jobs_find_their_script_their_config_and_their_machines(repository, name):
    (document,) = documents(repository / "cluster/kuberay" / name)
    job = check_manifest(document).spec
    _, script, config = job.entrypoint.split()
    assert (repository / script).is_file()
    settings = load_config(repository / config, [], {})
    there = {group.groupName for group in job.rayClusterSpec.workerGroupSpecs}
    works = ["data", "encode", "llm"] if "assemble" in script else ["data", "encode", "llm", "train"]
    assert {getattr(settings.cluster, work).pool for work in works} == there
    assert "driver" in job.rayClusterSpec.group("cpu").rayStartParams["resources"]


def test_the_service_is_what_serve_deploys(repository):
    (document,) = documents(repository / "cluster/kuberay/rayservice.yaml")
    service = check_manifest(document).spec
    written = yaml.safe_load((repository / "serve/production.yaml").read_text())
    assert yaml.safe_load(service.serveConfigV2) == written
    keys = written["applications"][0]["args"]["keys_file"]
    for template in service.rayClusterConfig.templates:
        (container,) = template["spec"]["containers"]
        assert any(keys.startswith(mount["mountPath"]) for mount in container["volumeMounts"])


# ---- the image


def test_the_image_has_the_wheel_and_what_lies_beside_it(repository, tmp_path):
    text = (repository / "cluster/Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for part in source.split():
            assert (repository / part).exists(), part
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    for target in ("cpu", "gpu"):
        (stage,) = (stage for stage in stages if stage.splitlines()[0].endswith(f"AS {target}"))
        assert stage.rstrip().endswith("USER 1000")
    source = tmp_path / "src"  # building leaves things behind
    shutil.copytree(repository / "platform", source / "platform")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(repository / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = repository / "platform"
    wanted = [file for file in (package / "reasonembed").rglob("*") if file.suffix in {".py", ".json", ".jsonl", ".j2"}]
    assert {str(file.relative_to(package)) for file in wanted} <= names


def assert_fits(config, room):
    """One worker of every kind fits a machine of its pool; all ranks, and one engine, fit the pool."""
    for work in PROFILES["gpu-cluster"]:
        place = getattr(config.cluster, work)
        cpus, gpus, machines = room[place.pool]
        of_one = config.llm.tensor_parallel if work == "llm" else 1
        assert place.cpus * of_one <= cpus
        assert place.gpus * of_one <= gpus
        if work == "train":
            assert config.train.workers * place.gpus <= gpus * machines
            assert config.train.workers * place.cpus <= cpus * machines
    assert config.llm.actors[1] * config.llm.tensor_parallel <= room["gpu-spot"][1] * room["gpu-spot"][2]
