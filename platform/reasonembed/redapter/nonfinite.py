"""The errors that end a training because a number is not finite (infinite, or not a number)."""

from collections.abc import Sequence

from reasonembed.errors import JobFailed

REMEDY = "lower train.learning_rate or raise train.temperature"


class NonFiniteStep(JobFailed):
    """A step whose numbers are not finite.

    Args:
        step: number of the step.
        query_ids: the queries that are involved.
    """

    subject = "the step"

    def __init__(self, step: int, query_ids: Sequence[str]) -> None:
        self.step, self.query_ids = step, list(query_ids)
        shown = ", ".join(self.query_ids[:3]) + (", ..." if len(self.query_ids) > 3 else "")
        super().__init__(
            f"step {step}: {self.subject} of {len(self.query_ids)} queries is not a finite number ({shown}); {REMEDY}"
        )

    def __reduce__(self) -> tuple[type, tuple[int, list[str]]]:
        return type(self), (self.step, self.query_ids)


class NonFiniteLoss(NonFiniteStep):
    """Raised when the loss is not a finite number; it names the queries whose own losses are not finite."""

    subject = "the loss"


class NonFiniteGradient(NonFiniteStep):
    """Raised when the norm of the gradient is not a finite number; it names all queries of the step.

    The weights are those before the step.
    """

    subject = "the gradient's norm"


class NonFiniteWeights(JobFailed):
    """Raised instead of writing a checkpoint or a model with a weight that is not a finite number.

    Args:
        step: number of finished steps.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"after {step} steps a weight is not a finite number and nothing is saved; {REMEDY}")

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.step,)
