"""The peer of ``serve.py``: a simple server with FastAPI, Sentence Transformers and FAISS.

Usage: ``plain_server.py INDEX_FOLDER MODEL PORT``.
"""

import sys
from pathlib import Path

import faiss
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

index_folder, model_name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
shard = Path(index_folder) / "shard-00000"
index = faiss.read_index(str(shard / "index.faiss"))
documents = pq.read_table(shard / "documents.parquet").to_pylist()
model = SentenceTransformer(model_name, device="cpu")
app = FastAPI()


class Question(BaseModel):
    """Body of a search."""

    query: str
    top_k: int = 10


class TextInput(BaseModel):
    """Body of a request for vectors."""

    input: str


@app.get("/readyz")
def readyz() -> dict[str, str]:
    """Answers 200 when the server has started."""
    return {"status": "ready"}


@app.post("/v1/search")
def search(question: Question) -> dict[str, object]:
    """Returns the documents nearest to the question."""
    vectors = model.encode([question.query], normalize_embeddings=True, show_progress_bar=False)
    scores, positions = index.search(vectors, question.top_k)
    hits = [{**documents[p], "score": float(s)} for p, s in zip(positions[0], scores[0], strict=True)]
    return {"results": [{"query": question.query, "hits": hits}]}


@app.post("/v1/embeddings")
def embeddings(text: TextInput) -> dict[str, object]:
    """Returns the vector of the text."""
    vectors = model.encode([text.input], normalize_embeddings=True, show_progress_bar=False)
    return {"data": [{"embedding": vector.tolist(), "index": i} for i, vector in enumerate(vectors)]}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
