from reasonembed import ids


def test_digests_depend_on_the_borders_between_parts():
    assert ids.digest("ab", "c") != ids.digest("a", "bc")
    assert ids.digest("ab", "c") == ids.digest("ab", "c")
    assert len(ids.digest("a")) == 16
    assert ids.digest("a", length=8) == ids.digest("a")[:8]


def test_text_that_is_not_valid_unicode_has_a_digest():
    assert ids.digest("\ud800") != ids.digest("\ud801")


def test_the_digest_of_json_does_not_depend_on_the_order_of_keys():
    assert ids.digest_json({"a": 1, "b": [2, 3]}) == ids.digest_json({"b": [2, 3], "a": 1})
    assert ids.digest_json({"a": [2, 3]}) != ids.digest_json({"a": [3, 2]})


def test_normalised_text_has_single_spaces():
    assert ids.normalised_text(" a\n\t b  c ") == "a b c"


def test_ids_stay_the_same():
    """Artifacts of earlier versions contain these ids."""
    assert ids.query_id("biology", "d1") == "581c1f1dd44134f0"
    assert ids.pair_id("q1", "d1") == "ebc002f4f1aad92a"
    assert ids.text_id("some text") == "a6c30c728f40a59e"
