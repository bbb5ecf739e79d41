"""``cluster/``: Ray, KubeRay and Kubernetes accept every file, and the recipes fit the machines that the files name."""

import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from key_mutations import misspelt_keys, rejects
from manifests import POOLS, check_manifest
from ray_up_configs import check_ray_up

from reasonembed.config import load_config
from reasonembed.config.resources import POOL, PROFILES

RAY_UP = ["aws.yaml", "gcp.yaml"]
KUBERAY = ["raycluster.yaml", "rayjob-data.yaml", "rayjob-train.yaml", "rayservice.yaml"]
PLAIN = ["common.yaml", "monitoring.yaml"]
RECIPES = ["reasonembed-qwen3-4b.yaml", "reasonembed-qwen3-8b.yaml", "reasonembed-llama-3.1-8b.yaml"]


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def cluster_of(manifest):
    return getattr(manifest.spec, "rayClusterSpec", getattr(manifest.spec, "rayClusterConfig", manifest.spec))


# ---- `ray up`


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_accepts_the_file(repository, name):
    prepared = check_ray_up(*documents(repository / "cluster" / name))
    node_types = prepared["available_node_types"]
    assert {node_type["labels"][POOL] for node_type in node_types.values()} == POOLS
    assert node_types[prepared["head_node_type"]]["resources"]["CPU"] == 0
    assert all(node_type["min_workers"] == 0 for node_type in node_types.values())
    start = " ".join(prepared["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in prepared["docker"]["run_options"]


@pytest.mark.parametrize("name", RAY_UP)
def test_a_misspelt_key_in_a_file_for_ray_up_is_rejected(repository, name):
    (config,) = documents(repository / "cluster" / name)
    check_ray_up(config)
    accepted = [path for path, mutated in misspelt_keys(config) if not rejects(check_ray_up, mutated)]
    assert not accepted


@pytest.mark.parametrize("name", RAY_UP)
def test_the_recipes_fit_the_machines_of_ray_up(repository, name):
    (config,) = documents(repository / "cluster" / name)
    capacity = {
        node_type["labels"][POOL]: (
            node_type["resources"]["CPU"],
            node_type["resources"].get("GPU", 0),
            node_type.get("max_workers", 0),
        )
        for node_type in config["available_node_types"].values()
    }
    for recipe in RECIPES:
        assert_fits(load_config(repository / "jobs/configs" / recipe, [], {}), capacity)


# ---- KubeRay


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberay_accepts_the_file_and_pods_run_without_privileges(repository, name):
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
            assert any(toleration["key"] == "nvidia.com/gpu" for toleration in spec["tolerations"])


@pytest.mark.parametrize("name", KUBERAY + PLAIN)
def test_a_misspelt_key_in_a_manifest_is_rejected(repository, name):
    accepted = []
    for document in documents(repository / "cluster/kuberay" / name):
        check_manifest(document)
        accepted += [path for path, mutated in misspelt_keys(document) if not rejects(check_manifest, mutated)]
    assert not accepted


def test_the_recipes_fit_the_machines_of_kuberay(repository):
    (document,) = documents(repository / "cluster/kuberay/raycluster.yaml")
    capacity = {
        group.groupName: (int(group.limits["cpu"]), int(group.limits.get("nvidia.com/gpu", 0)), group.maxReplicas)
        for group in check_manifest(document).spec.workerGroupSpecs
    }
    for recipe in RECIPES:
        assert_fits(load_config(repository / "jobs/configs" / recipe, [], {}), capacity)


@pytest.mark.parametrize("name", ["rayjob-data.yaml", "rayjob-train.yaml"])
def test_the_script_the_config_and_the_machines_of_a_job_exist(repository, name):
    (document,) = documents(repository / "cluster/kuberay" / name)
    job = check_manifest(document).spec
    _, script, config = job.entrypoint.split()
    assert (repository / script).is_file()
    settings = load_config(repository / config, [], {})
    pools = {group.groupName for group in job.rayClusterSpec.workerGroupSpecs}
    workloads = ["data", "encode", "llm"] if "assemble" in script else ["data", "encode", "llm", "train"]
    assert {getattr(settings.cluster, workload).pool for workload in workloads} == pools
    assert "driver" in job.rayClusterSpec.group("cpu").rayStartParams["resources"]


def test_the_service_deploys_the_production_config(repository):
    (document,) = documents(repository / "cluster/kuberay/rayservice.yaml")
    service = check_manifest(document).spec
    config = yaml.safe_load((repository / "serve/production.yaml").read_text())
    assert yaml.safe_load(service.serveConfigV2) == config
    keys = config["applications"][0]["args"]["keys_file"]
    for template in service.rayClusterConfig.templates:
        (container,) = template["spec"]["containers"]
        assert any(keys.startswith(mount["mountPath"]) for mount in container["volumeMounts"])


# ---- the image


def test_the_image_holds_the_wheel_and_all_files_that_it_copies(repository, tmp_path):
    text = (repository / "cluster/Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for part in source.split():
            assert (repository / part).exists(), part
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    for target in ("cpu", "gpu"):
        (stage,) = (stage for stage in stages if stage.splitlines()[0].endswith(f"AS {target}"))
        assert stage.rstrip().endswith("USER 1000")
    source = tmp_path / "src"  # a build leaves files in its folder
    shutil.copytree(repository / "platform", source / "platform")
    (copied,) = re.findall(r"^COPY (.*pyproject.toml.*) \./$", text, re.MULTILINE)
    for name in copied.split():
        shutil.copy(repository / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = repository / "platform"
    suffixes = {".py", ".json", ".jsonl", ".j2", ".yaml", ".typed"}
    files = [file for file in (package / "reasonembed").rglob("*") if file.suffix in suffixes]
    assert {str(file.relative_to(package)) for file in files} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def assert_fits(config, capacity):
    """Asserts that every worker fits a machine of its pool, and that all ranks, and all LLM engines, fit their pool.

    Args:
        config: of a recipe.
        capacity: CPUs and GPUs of a machine and the maximum number of machines, by pool.
    """
    for workload in PROFILES["gpu-cluster"]:
        resources = getattr(config.cluster, workload)
        cpus, gpus, machines = capacity[resources.pool]
        workers = config.llm.tensor_parallel if workload == "llm" else 1
        assert resources.cpus * workers <= cpus
        assert resources.gpus * workers <= gpus
        if workload == "train":
            assert config.train.workers * resources.gpus <= gpus * machines
            assert config.train.workers * resources.cpus <= cpus * machines
    _, gpus, machines = capacity["gpu-spot"]
    assert config.llm.actors[1] * config.llm.tensor_parallel <= gpus * machines
