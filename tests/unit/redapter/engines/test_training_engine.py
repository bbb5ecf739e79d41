import json

import pytest

from reasonembed.config import Train
from reasonembed.errors import UserError
from reasonembed.redapter.engines.training_engine import LAYOUT_FILE, check_checkpoint_layout, write_checkpoint_layout


def test_a_checkpoint_of_this_number_of_workers_can_be_loaded(tmp_path):
    write_checkpoint_layout(tmp_path, Train(workers=1, zero_stage=3))
    assert json.loads((tmp_path / LAYOUT_FILE).read_text()) == {"zero_stage": 3, "workers": 1}
    check_checkpoint_layout(tmp_path)


def test_a_sharded_checkpoint_of_another_number_of_workers_is_an_error(tmp_path):
    (tmp_path / LAYOUT_FILE).write_text('{"zero_stage": 1, "workers": 2}')
    with pytest.raises(UserError, match=r"has 2 shards and cannot be loaded by 1 workers; set train.workers=2"):
        check_checkpoint_layout(tmp_path)


def test_a_checkpoint_without_shards_can_be_loaded_by_any_number_of_workers(tmp_path):
    (tmp_path / LAYOUT_FILE).write_text('{"zero_stage": 0, "workers": 2}')
    check_checkpoint_layout(tmp_path)
