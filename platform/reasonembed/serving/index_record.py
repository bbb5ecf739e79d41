"""Checks the record of an index before it is served: its fields, and that its files are in its own folder."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reasonembed.artifacts import Artifact
from reasonembed.config import Encode, Index
from reasonembed.errors import UserError

REQUIRED_FIGURES = {"rows", "dimension", "shards", "shard_rows"}
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


class _Figures(BaseModel):
    model_config = ConfigDict(strict=True)  # A number in quotes is no number.

    rows: int = Field(ge=1)
    dimension: int = Field(ge=1)
    shards: int = Field(ge=1)
    shard_rows: list[int]
    tasks: list[str]


class _ModelInput(BaseModel):
    fingerprint: str


class _Settings(BaseModel):
    model: str
    encode: Encode
    index: Index

    @field_validator("index", mode="before")
    @classmethod
    def _has_kind_and_bm25(cls, index: Any) -> Any:
        if not (isinstance(index, Mapping) and {"kind", "bm25"} <= index.keys()):
            raise ValueError("`kind` or `bm25` is missing")
        return index


class _Inputs(BaseModel):
    model: str | _ModelInput


class _File(BaseModel):
    path: str

    @field_validator("path")
    @classmethod
    def _is_below_the_folder(cls, path: str) -> str:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"{path!r} is not a path below the folder of the index")
        return path


class _Record(BaseModel):
    fingerprint: str = Field(min_length=1)
    attempt: str = Field(pattern=re.compile(r"^\w[\w.-]*$"))
    finished: str
    figures: _Figures
    config: _Settings
    inputs: _Inputs
    files: list[_File]

    @field_validator("finished")
    @classmethod
    def _is_a_time(cls, finished: str) -> str:
        datetime.strptime(finished, TIME_FORMAT)
        return finished


def check_index_record(index: Artifact) -> None:
    """Checks the record of an index.

    Raises:
        UserError: the record is damaged, of another stage or of another version of this program.
    """
    if not isinstance(index.record, Mapping):
        raise UserError(f"index {index.uri} is damaged: its record is not a JSON object; build the index again")
    if index.record.get("stage") != "index":
        raise UserError(f"no finished index at {index.uri}; run the pipeline first (make quickstart)")
    figures = index.record.get("figures")
    if isinstance(figures, Mapping) and (missing := REQUIRED_FIGURES - figures.keys()):
        raise UserError(
            f"index {index.uri} was built by an earlier version (no {', '.join(sorted(missing))}); "
            "build the index again"
        )
    try:
        record = _Record.model_validate(index.record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"index {index.uri} is damaged, or was built by another version: field {field} of its record: "
            f"{first['msg']}; build the index again"
        ) from None
    rows = record.figures.shard_rows
    if len(rows) != record.figures.shards or sum(rows) != record.figures.rows:
        raise UserError(f"index {index.uri} is damaged: the rows of its shards do not add up; build the index again")


def finished_at(index: Artifact) -> datetime:
    """Returns when a checked index was finished."""
    return datetime.strptime(index.record["finished"], TIME_FORMAT)
