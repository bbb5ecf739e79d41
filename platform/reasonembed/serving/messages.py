"""Requests and responses of the HTTP API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reasonembed.retrieval.fusion import Fusion
from reasonembed.serving.service import SearchMode


class StrictRequest(BaseModel):
    """A request body that may hold no unknown fields."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SearchRequest(StrictRequest):
    """Body of ``POST /v1/search``."""

    query: str | list[str] = Field(
        description="One question or several.",
        examples=["how many processors does this machine have", ["first question", "second question"]],
    )
    task: str | None = Field(None, description="Search the documents of this task only; `GET /v1/models` lists them.")
    instruction: str = Field(
        "", max_length=2000, description="What to retrieve, for models that were trained with instructions."
    )
    mode: SearchMode = Field("dense", description="By meaning, by words, or by both.")
    fusion: Fusion = Field("minmax", description="How `hybrid` combines the two.")
    top_k: int = Field(10, ge=1, le=1000, description="Documents for each question.")
    exclude_ids: list[str] = Field([], max_length=20_000, description="Documents that must not be returned.")
    return_text: bool = Field(True, description="Include the documents' texts in the response.")

    def queries(self) -> list[str]:
        """Returns the questions as a list, also if there is only one."""
        return [self.query] if isinstance(self.query, str) else self.query


class EmbeddingsRequest(StrictRequest):
    """Body of ``POST /v1/embeddings``, in the format of OpenAI."""

    input: str | list[str] = Field(
        description="One text or several; they are encoded as they are.",
        examples=["a bell", ["a bell", "ice and snow"]],
    )
    model: str = Field("", description="`id` of `GET /v1/models`; by default the model that is live.")
    encoding_format: Literal["float", "base64"] = Field("float", description="`base64`: little-endian float32.")
    dimensions: int | None = Field(
        None, ge=1, description="Cut vectors to this many numbers; only for models trained with Matryoshka lengths."
    )
    user: str | None = Field(None, max_length=1000, description="Accepted for OpenAI's clients, and ignored.")

    def texts(self) -> list[str]:
        """Returns the texts as a list, also if there is only one."""
        return [self.input] if isinstance(self.input, str) else self.input


class Hit(BaseModel):
    """A document that was found."""

    doc_id: str
    task: str
    score: float
    text: str | None = Field(None, description="Missing with `return_text: false`.")


class QueryHits(BaseModel):
    """The documents for one question, best first."""

    query: str
    hits: list[Hit]


class SearchResponse(BaseModel):
    """Response of ``POST /v1/search``."""

    model: str
    index: str = Field(description="Version of the index that was searched.")
    results: list[QueryHits]


class EmbeddingEntry(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class TokenCounts(BaseModel):
    """Tokens of a request, in the format of OpenAI."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Response of ``POST /v1/embeddings``, in the format of OpenAI."""

    object: Literal["list"]
    model: str
    data: list[EmbeddingEntry]
    usage: TokenCounts


class ModelInfo(BaseModel):
    """The model that is live, and the index that was built with it."""

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


class ModelsResponse(BaseModel):
    """Response of ``GET /v1/models``, in the format of OpenAI."""

    object: Literal["list"]
    data: list[ModelInfo]


class ErrorDetail(BaseModel):
    """An error, in the format of OpenAI."""

    message: str
    type: str
    code: str
    param: str | None = None


class ErrorResponse(BaseModel):
    """Response of a request that failed or was refused."""

    error: ErrorDetail


class HealthResponse(BaseModel):
    """Response of ``GET /healthz`` and ``GET /readyz``."""

    status: str
    index: str | None = None
