from reasonembed.retrieval.text_analysis import analyser, lucene_tokens, split_name_tokens


def test_tokens_are_those_of_lucenes_english_analyzer():
    """The expected tokens are the output of Lucene 8.7; benchmarks/bm25.py compares whole corpora."""
    for text, tokens in {
        "The cat's whiskers weren't trimmed": "cat whisker weren't trim",
        "env.out.print(U8.max_value())": "env.out.print u8 max_valu",
        "Version 3.14 costs 1,000.50 dollars; see foo_bar": "version 3.14 cost 1,000.50 dollar see foo_bar",
        "well-known: the s and Us of possibly studied morphology": "well known s us possibl studi morpholog",
        "fun isPrime(num: USize): bool => __init__": "fun isprim num usiz bool __init__",
    }.items():
        assert lucene_tokens([text]) == [tokens.split()], text
        assert analyser("lucene")([text]) == [tokens.split()], text


def test_names_are_split_into_their_parts():
    parts = [["os", "path", "join", "keep", "file", "name"]]
    assert split_name_tokens(["os.path.join keeps a file's name"]) == parts
    assert analyser("split-names")(["os.path.join keeps a file's name"]) == parts
