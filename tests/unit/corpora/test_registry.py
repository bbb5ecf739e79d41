import pytest

from reasonembed.corpora.registry import parse_source, source_forms
from reasonembed.errors import UserError


def test_sources_are_split_at_the_first_colon():
    assert parse_source("pydocs") == ("pydocs", "")
    assert parse_source("bright:xlangai/BRIGHT") == ("bright", "xlangai/BRIGHT")
    assert parse_source("beir:s3://bucket/sci") == ("beir", "s3://bucket/sci")


@pytest.mark.parametrize("source", ["pydoc", "bright:", "bright", "pydocs:x", "elastic:x", ""])
def test_an_unknown_source_is_answered_with_the_known_forms(source):
    with pytest.raises(UserError, match="is not known; write pydocs, bright:") as error:
        parse_source(source)
    assert str(error.value).endswith(source_forms())


def test_the_forms_of_sources():
    assert source_forms() == (
        "pydocs, bright:<folder or hub id>, bright-long:<folder or hub id>, r2med:<folder or hub owner>, "
        "beir:<folder> or files:<folder>"
    )
