import pytest

from reasonembed.corpora import read_corpus
from reasonembed.errors import UserError


@pytest.mark.parametrize("source", ["bright:nobody/nothing", "r2med:nobody"])
def test_an_unreachable_hub_is_reported_in_one_line(source):
    with pytest.raises(UserError, match="is neither a local folder nor a data set that the hub returns") as error:
        read_corpus(source)
    assert "\n" not in str(error.value)
