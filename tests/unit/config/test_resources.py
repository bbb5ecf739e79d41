from reasonembed.config import Config, Resources, load_config


def test_a_profile_gives_the_resources_that_are_not_configured(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("cluster: {profile: gpu-cluster, llm: {gpus: 0, cpus: 4}}")
    cluster = load_config(path, ["cluster.train={pool: mine}"], {}).cluster
    assert (cluster.llm.device, cluster.llm.cpus, cluster.llm.pool) == ("cpu", 4, "gpu-spot")
    assert (cluster.train.device, cluster.train.gpus, cluster.train.labels) == ("cuda", 1, {"ray-subcluster": "mine"})
    assert cluster.data.options == {"num_cpus": 1, "num_gpus": None, "label_selector": {"ray-subcluster": "cpu"}}


def test_resources_that_were_built_in_code_are_left_alone():
    config = Config.model_validate({"cluster": {"profile": "gpu-cluster", "llm": Resources(cpus=2)}})
    assert config.cluster.llm == Resources(cpus=2)


def test_without_a_profile_no_kind_of_work_asks_for_a_gpu_or_a_pool():
    cluster = Config().cluster
    for name in ("data", "encode", "llm", "train", "index", "serve", "search"):
        resources = getattr(cluster, name)
        assert resources.device == "cpu"
        assert not resources.labels


def test_a_bundle_counts_as_rays_placement_groups_do():
    assert Resources(cpus=2, gpus=0.5).bundle == {"CPU": 2, "GPU": 0.5}
    assert Resources().bundle == {"CPU": 1}
    assert Resources(gpus=1, pool="p").options == {
        "num_cpus": 1,
        "num_gpus": 1,
        "label_selector": {"ray-subcluster": "p"},
    }
