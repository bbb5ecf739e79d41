"""Requests and answers of the HTTP API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reasonembed.retrieval.fusion import Fusion
from reasonembed.serving.service import Mode


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SearchRequest(Strict):
    query: str | list[str] = Field(
        description="One question or several.",
        examples=["run something when the program is about to end", ["first question", "second question"]],
    )
    task: str | None = Field(None, description="Search the documents of this task only; `GET /v1/models` lists them.")
    instruction: str = Field(
        "", max_length=2000, description="What to retrieve, for models that were trained with instructions."
    )
    mode: Mode = Field("dense", description="By meaning, by words, or by both.")
    fusion: Fusion = Field("minmax", description="How `hybrid` adds the two up.")
    top_k: int = Field(10, ge=1, le=1000, description="Documents for each question.")
    exclude_ids: list[str] = Field([], max_length=20_000, description="Documents that must not be found.")
    return_text: bool = Field(True, description="Answer with the documents' texts.")

    def queries(self) -> list[str]:
        return [self.query] if isinstance(self.query, str) else self.query


class EmbeddingsRequest(Strict):
    input: str | list[str] = Field(
        description="One text or several; they are encoded as they are.",
        examples=["a bell", ["a bell", "ice and snow"]],
    )
    model: str = Field("", description="`id` of `GET /v1/models`; left out, the model that is live.")
    encoding_format: Literal["float", "base64"] = Field("float", description="`base64`: little-endian float32.")
    dimensions: int | None = Field(None, ge=1, description="Cut vectors to so many numbers; Matryoshka models only.")
    user: str | None = Field(None, max_length=1000, description="Taken, and ignored, for OpenAI's clients.")

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class Hit(BaseModel):
    doc_id: str
    task: str
    score: float
    text: str | None = Field(None, description="Left out with `return_text: false`.")


class Result(BaseModel):
    query: str
    hits: list[Hit]


class SearchAnswer(BaseModel):
    model: str
    index: str = Field(description="Version of the index that answered.")
    results: list[Result]


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    index: str
    index_kind: str
    documents: int
    dimension: int
    dimensions: list[int] = Field(description="Lengths to which vectors may be cut.")
    max_tokens: int = Field(description="Longer texts are cut.")
    tasks: list[str]


class ModelsAnswer(BaseModel):
    object: Literal["list"]
    data: list[Model]


class Problem(BaseModel):
    message: str
    type: str
    code: str
    param: str | None = None


class ErrorAnswer(BaseModel):
    error: Problem


class Ready(BaseModel):
    status: str
    index: str | None = None
