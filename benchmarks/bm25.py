"""Compares our BM25 with Lucene's text analysis and with BRIGHT's own baseline, by token and in nDCG@10:

    python benchmarks/bm25.py bright:FOLDER beir:FOLDER [--gensim PYTHON]

Downloads Lucene 8 from Debian's packages into a cache folder (needs apt and a JDK), analyses every document and
question with its EnglishAnalyzer, and prints how many tokens differ from ours and the nDCG@10 of BM25 with Lucene's
tokens and with ours. ``--gensim`` names a Python executable with gensim, whose LuceneBM25Model BRIGHT's baseline
applies to documents and queries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from reasonembed.corpora import read_corpus, read_questions
from reasonembed.embedder.prompts import document_text
from reasonembed.evaluation.metrics import AVERAGE, means, per_question
from reasonembed.evaluation.ranking import bm25_scorer, rank_questions
from reasonembed.retrieval import text_analysis
from reasonembed.retrieval.bm25 import QueryWeighting
from reasonembed.retrieval.collection import build_collections

LUCENE_ANALYSIS = """
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

BRIGHT_BASELINE = """
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
    best = sorted(range(len(scores)), key=lambda position: -scores[position])[:10]
    gold = set(gold)
    gain = sum(1 / math.log2(rank + 2) for rank, position in enumerate(best) if data["ids"][position] in gold)
    total += gain / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(gold))))
print(total / len(data["queries"]))
"""


def main() -> None:
    """Prints the table for the benchmarks of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="benchmarks of one task, as in evaluate.benchmark")
    parser.add_argument("--gensim", help="a Python executable with gensim")
    arguments = parser.parse_args()
    table = Table(title="nDCG@10 of BM25, k1 0.9, b 0.4")
    for name in ("benchmark", "tokens that differ", "query weighting", "ours", "Lucene's tokens", "BRIGHT's baseline"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for source in arguments.sources:
        for row in _table_rows(source, arguments.gensim):
            table.add_row(*row)
    Console(width=120).print(table)


def _table_rows(source: str, gensim: str | None) -> list[list[str]]:
    """Returns the rows of the table for one benchmark: one per weighting of the query's tokens."""
    corpus = read_corpus(source)
    questions = read_questions(source, "test", corpus)
    titles, bodies = corpus["title"].to_pylist(), corpus["text"].to_pylist()
    texts = [document_text(title, body) for title, body in zip(titles, bodies, strict=True)]
    queries = questions["query"].to_pylist()
    lucene_tokens = dict(zip(texts + queries, _analyse_with_lucene(texts + queries), strict=True))
    our_tokens = text_analysis.lucene_tokens(texts)
    different = sum(
        (Counter(lucene_tokens[text]) - Counter(tokens)).total() for text, tokens in zip(texts, our_tokens, strict=True)
    )
    share = f"{different:,} of {sum(len(lucene_tokens[text]) for text in texts):,}"
    rows = []
    for weighting in ("count", "bm25"):
        ours = _ndcg(corpus, questions, weighting)
        with mock.patch.object(text_analysis, "lucene_tokens", lambda batch: [lucene_tokens[text] for text in batch]):
            with_lucene_tokens = _ndcg(corpus, questions, weighting)
        baseline = ""
        if gensim and weighting == "bm25":
            data = {
                "documents": [lucene_tokens[text] for text in texts],
                "queries": [lucene_tokens[query] for query in queries],
                "ids": corpus["doc_id"].to_pylist(),
                "gold": questions["gold_ids"].to_pylist(),
            }
            baseline = f"{_bright_baseline(gensim, data):.4f}"
        name = source.rsplit("/", maxsplit=1)[-1]
        rows.append([name, share, weighting, f"{ours:.4f}", f"{with_lucene_tokens:.4f}", baseline])
    return rows


def _ndcg(corpus: pa.Table, questions: pa.Table, weighting: QueryWeighting) -> float:
    collections = iter(build_collections(corpus).items())
    ranking = rank_questions(questions, collections, bm25_scorer(weighting), lambda row: row["query"])
    return means(per_question(questions, ranking))[AVERAGE]["ndcg@10"]


def _analyse_with_lucene(texts: list[str]) -> list[list[str]]:
    """Returns the tokens of every text by Lucene's EnglishAnalyzer."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from debian import unpacked

    jars = unpacked("lucene", "liblucene8-java") / "usr/share/java"
    classpath = ":".join(str(path) for path in jars.glob("lucene-*.jar"))
    encoded = [text.encode() for text in texts]
    size = lambda number: int(number).to_bytes(4, "big")  # noqa: E731
    data = size(len(encoded)) + b"".join(size(len(text)) + text for text in encoded)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "Analyse.java"
        source.write_text(LUCENE_ANALYSIS)
        process = subprocess.run(["java", "-cp", classpath, str(source)], input=data, capture_output=True, check=True)
    return [line.split() for line in process.stdout.decode().split("\n")[: len(texts)]]


def _bright_baseline(python: str, data: dict[str, list[list[str]]]) -> float:
    """Returns the nDCG@10 of BRIGHT's baseline, computed by a Python with gensim."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.json"
        path.write_text(json.dumps(data, default=np.ndarray.tolist))
        command = [python, "-c", BRIGHT_BASELINE, str(path)]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(process.stdout)


if __name__ == "__main__":
    main()
