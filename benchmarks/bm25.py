"""Our BM25 beside Lucene's analysis and beside BRIGHT's own baseline, word by word and as nDCG@10:

    python benchmarks/bm25.py bright:FOLDER beir:FOLDER [--gensim PYTHON]

Fetches Lucene 8 from Debian's packages (into a cache folder; needs apt and a JDK), lets its EnglishAnalyzer read every
document and question, and prints how many words differ from ours and what BM25 measures with either's words.
``--gensim`` names a Python with gensim, whose LuceneBM25Model BRIGHT's baseline applies to documents and queries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from reasonembed.corpora import read_corpus, read_questions
from reasonembed.embedder.prompts import document_text
from reasonembed.evaluation.metrics import AVERAGE, means, per_question
from reasonembed.evaluation.ranking import bm25_scorer, rank_questions
from reasonembed.retrieval import bm25
from reasonembed.retrieval.collection import build_collections

ANALYSE = """
import java.io.*;
import java.nio.charset.StandardCharsets;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;

public class Analyse {
  public static void main(String[] arguments) throws Exception {
    EnglishAnalyzer analyzer = new EnglishAnalyzer();
    DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
    PrintStream out = new PrintStream(new BufferedOutputStream(System.out), false, "UTF-8");
    for (int left = in.readInt(); left > 0; left--) {
      String text = new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
      TokenStream tokens = analyzer.tokenStream("text", text);
      CharTermAttribute term = tokens.addAttribute(CharTermAttribute.class);
      tokens.reset();
      while (tokens.incrementToken()) { out.print(term.toString()); out.print(' '); }
      tokens.end();
      tokens.close();
      out.println();
    }
    out.flush();
  }
}
"""

BASELINE = """
import json, math, sys
from gensim.corpora import Dictionary
from gensim.models import LuceneBM25Model
from gensim.similarities import SparseMatrixSimilarity
data = json.load(open(sys.argv[1]))
words = Dictionary(data["documents"])
model = LuceneBM25Model(dictionary=words, k1=0.9, b=0.4)
corpus = model[[words.doc2bow(document) for document in data["documents"]]]
index = SparseMatrixSimilarity(
    corpus, num_docs=len(data["documents"]), num_terms=len(words), normalize_queries=False, normalize_documents=False
)
total = 0
for query, gold in zip(data["queries"], data["gold"]):
    scores = index[model[words.doc2bow(query)]]
    best = sorted(range(len(scores)), key=lambda place: -scores[place])[:10]
    gain = sum(1 / math.log2(rank + 2) for rank, place in enumerate(best) if data["ids"][place] in set(gold))
    total += gain / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(gold))))
print(total / len(data["queries"]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="benchmarks of one task, as evaluate.benchmark")
    parser.add_argument("--gensim", help="a Python with gensim")
    arguments = parser.parse_args()
    table = Table(title="nDCG@10 of BM25, k1 0.9, b 0.4")
    for name in ("benchmark", "words that differ", "query weights", "ours", "Lucene's words", "BRIGHT's baseline"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for source in arguments.sources:
        for row in _rows(source, arguments.gensim):
            table.add_row(*row)
    Console(width=120).print(table)


def _rows(source: str, gensim: str | None) -> list[list[str]]:
    corpus = read_corpus(source)
    questions = read_questions(source, "test", corpus)
    titles, bodies = corpus["title"].to_pylist(), corpus["text"].to_pylist()
    texts = [document_text(title, body) for title, body in zip(titles, bodies, strict=True)]
    queries = questions["query"].to_pylist()
    lucene = dict(zip(texts + queries, _lucene(texts + queries), strict=True))
    differ = sum(
        (Counter(lucene[text]) - Counter(words)).total() for text, words in zip(texts, bm25.analyse(texts), strict=True)
    )
    share = f"{differ:,} of {sum(len(lucene[text]) for text in texts):,}"
    rows = []
    for weights in ("count", "bm25"):
        ours = _measure(corpus, questions, weights)
        own = bm25.analyse
        bm25.analyse = lambda found: [lucene[text] for text in found]  # type: ignore[assignment]
        theirs = _measure(corpus, questions, weights)
        bm25.analyse = own  # type: ignore[assignment]
        baseline = ""
        if gensim and weights == "bm25":
            data = {
                "documents": [lucene[text] for text in texts],
                "queries": [lucene[query] for query in queries],
                "ids": corpus["doc_id"].to_pylist(),
                "gold": questions["gold_ids"].to_pylist(),
            }
            baseline = f"{_gensim(gensim, data):.4f}"
        rows.append([source.rsplit("/", maxsplit=1)[-1], share, weights, f"{ours:.4f}", f"{theirs:.4f}", baseline])
    return rows


def _measure(corpus, questions, weights) -> float:  # type: ignore[no-untyped-def]
    collections = iter(build_collections(corpus).items())
    ranking = rank_questions(questions, collections, bm25_scorer(weights), lambda row: row["query"])
    return means(per_question(questions, ranking))[AVERAGE]["ndcg@10"]


def _lucene(texts: list[str]) -> list[list[str]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from debian import unpacked

    jars = unpacked("lucene", "liblucene8-java") / "usr/share/java"
    classpath = ":".join(str(path) for path in jars.glob("lucene-*.jar"))
    given = [text.encode() for text in texts]
    size = lambda number: int(number).to_bytes(4, "big")  # noqa: E731
    data = size(len(given)) + b"".join(size(len(raw)) + raw for raw in given)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "Analyse.java"
        source.write_text(ANALYSE)
        done = subprocess.run(["java", "-cp", classpath, str(source)], input=data, capture_output=True, check=True)
    return [line.split() for line in done.stdout.decode().split("\n")[: len(texts)]]


def _gensim(python: str, data: dict[str, list[list[str]]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.json"
        path.write_text(json.dumps(data, default=np.ndarray.tolist))
        done = subprocess.run([python, "-c", BASELINE, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
