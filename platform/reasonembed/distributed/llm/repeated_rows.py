"""The rows of an LLM stage that another attempt asks again, and the failures that remain after the last attempt."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import storage
from reasonembed.errors import JobFailed
from reasonembed.llm.reject_reasons import is_transport, may_pass_in_another_run

REJECT_COLUMNS = pa.schema([pa.field("reject_reason", pa.string()), pa.field("retriable", pa.bool_())])


@dataclass(frozen=True)
class Reject:
    """The latest rejection of a row that no attempt has accepted."""

    reason: str
    retriable: bool
    invalid_answers: int
    """Attempts in which an engine answered and the answer was invalid."""

    def is_repeated(self, attempts: int, in_new_run: bool) -> bool:
        """Returns whether the next attempt asks for the row again.

        Args:
            attempts: in which an engine may answer the row.
            in_new_run: the next attempt is the first one of a job that was started again.
        """
        if is_transport(self.reason) or (in_new_run and may_pass_in_another_run(self.reason)):
            return True
        return self.retriable and self.invalid_answers < attempts


def collect_repeated(
    inputs: Sequence[str],
    scratch: Sequence[Sequence[str]],
    id_column: str,
    uri: str,
    attempts: int,
    in_new_run: bool = False,
) -> int:
    """Writes the input rows that the next attempt asks again.

    An existing file is not written again, so that an interrupted attempt continues with the rows it began with.

    Args:
        inputs: files of the stage's input.
        scratch: files of each attempt so far, in order.
        id_column: in both.
        uri: of the file to write.
        attempts: in which an engine may answer a row: the row is rejected when all these answers are invalid.
        in_new_run: the attempt is the first one of a job that was started again. It also asks for the rows that were
            rejected as the server or ``llm.max_model_len`` was, because that may have changed.

    Returns:
        The number of these rows.
    """
    if storage.exists(uri):
        return storage.row_count(uri)
    rejects = latest_rejects(scratch, id_column)
    row_ids = pa.array(
        [row_id for row_id, reject in rejects.items() if reject.is_repeated(attempts, in_new_run)], pa.string()
    )
    if not len(row_ids):
        return 0
    rows = []
    for file in inputs:
        with storage.parquet_file(file) as parquet:
            for batch in parquet.iter_batches():
                table = pa.Table.from_batches([batch])
                rows.append(table.filter(pc.is_in(table[id_column], value_set=row_ids)))
    storage.write_table(pa.concat_tables(rows).combine_chunks(), uri)
    return len(row_ids)


def latest_rejects(scratch: Sequence[Sequence[str]], id_column: str) -> dict[str, Reject]:
    """Returns the rows that no attempt has accepted, by id.

    Args:
        scratch: files of each attempt, in order.
        id_column: of the ids.
    """
    rejects: dict[str, Reject] = {}
    schema = pa.schema([pa.field(id_column, pa.string()), *REJECT_COLUMNS])
    for attempt, files in enumerate(scratch):
        for file in files:
            table = storage.read_table([file], schema)
            is_rejected = pc.is_valid(table["reject_reason"])
            if attempt:
                for row_id in table.filter(pc.invert(is_rejected))[id_column].to_pylist():
                    rejects.pop(row_id, None)
            for row_id, reason, retriable in zip(
                *(table.filter(is_rejected)[name].to_pylist() for name in schema.names), strict=True
            ):
                earlier = rejects[row_id].invalid_answers if row_id in rejects else 0
                invalid = bool(retriable) and not is_transport(reason)
                rejects[row_id] = Reject(reason, bool(retriable), earlier + invalid)
    return rejects


def check_transport(name: str, scratch: Sequence[Sequence[str]], id_column: str) -> None:
    """Checks that every row has reached an engine, whatever the engine answered.

    Args:
        name: of the stage.
        scratch: files of each attempt, in order.
        id_column: of the ids.

    Raises:
        JobFailed: requests have failed on their way, in every attempt. Such rows must not be lost in silence.
    """
    rejects = latest_rejects(scratch, id_column)
    failures = Counter(reject.reason for reject in rejects.values() if is_transport(reject.reason))
    if failures:
        top = "; ".join(f"{count} × {reason}" for reason, count in failures.most_common(3))
        raise JobFailed(
            f"{name}: {failures.total()} rows have no answer, because their requests failed in every attempt ({top}); "
            "run the same command again to ask for these rows only"
        )
