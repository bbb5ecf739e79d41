from reasonembed.distributed.train.training_progress import TrainingProgress


def progress():
    """The class behind the actor, in this process."""
    return TrainingProgress.__ray_metadata__.modified_class()


def test_the_step_at_which_a_training_was_resumed_is_known():
    actor = progress()
    actor.report(1, 0.5)
    assert actor.state() == (1, 0.5, 0)
    actor.report(5, 0.25)
    actor.report(6, 0.125)
    assert actor.state() == (6, 0.125, 4)


def test_every_warning_is_shown_once():
    actor = progress()
    actor.warn("a", "of rank 0")
    actor.warn("a", "of rank 1")
    assert actor.new_warnings() == ["of rank 0"]
    assert actor.new_warnings() == []
    actor.warn("b", "another")
    actor.warn("a", "of rank 2")
    assert actor.new_warnings() == ["another"]
