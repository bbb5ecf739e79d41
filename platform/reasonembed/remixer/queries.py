"""The accepted queries among the rows of ``schemas.QUERIES``."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reasonembed import schemas
from reasonembed.artifacts import Artifact


def usable_queries(queries: pa.Table) -> pa.Table:
    """Returns the rows of ``schemas.QUERIES`` that were not rejected."""
    return queries.filter(pc.is_null(queries["reject_reason"]))


def queries_by_id(queries: Artifact) -> dict[str, dict[str, Any]]:
    """Loads the accepted rows of a ``schemas.QUERIES`` artifact, by ``query_id``."""
    return {row["query_id"]: row for row in usable_queries(queries.table(schemas.QUERIES)).to_pylist()}
