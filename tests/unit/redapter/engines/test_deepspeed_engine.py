from reasonembed.config import Train
from reasonembed.redapter.engines.deepspeed_engine import deepspeed_config


def test_the_config_follows_the_settings():
    config = deepspeed_config(Train(workers=2, zero_stage=1, dtype="bfloat16", max_grad_norm=0.5), 2)
    assert config["zero_optimization"]["stage"] == 1
    assert config["bf16"] == {"enabled": True}
    assert config["gradient_clipping"] == 0.5


def test_deepspeed_does_not_scale_the_loss():
    config = deepspeed_config(Train(workers=4), 4)
    assert config["gradient_accumulation_steps"] == 1
    assert config["train_batch_size"] == config["train_micro_batch_size_per_gpu"] * 4


def test_small_parameters_are_sharded_in_stage_3():
    assert deepspeed_config(Train(workers=2, zero_stage=3), 2)["zero_optimization"] == {
        "stage": 3,
        "overlap_comm": False,
        "stage3_param_persistence_threshold": 0,
    }


def test_the_engine_clips_where_deepspeed_would_not_check_the_norm():
    for stage, dtype, expected in (
        (0, "float32", 0.0),
        (0, "bfloat16", 0.5),
        (1, "float32", 0.5),
        (3, "bfloat16", 0.5),
    ):
        config = deepspeed_config(Train(workers=1, zero_stage=stage, dtype=dtype, max_grad_norm=0.5), 1)
        assert config["gradient_clipping"] == expected
