import pytest

from reasonembed.llm.protocol import Parsed
from reasonembed.remixer.clean import Belonging, CleanTask

ROW = {"query_id": "q", "task": "sustainable_living", "doc_id": "d", "title": "t", "text": "body"}


def test_the_subject_is_configured_or_the_name_of_the_task():
    fields = {"subject": "sustainable living", "document": "body"}
    assert CleanTask({}).request(ROW).fields == fields
    assert CleanTask({"sustainable_living": "ecology"}).request(ROW).fields["subject"] == "ecology"


@pytest.mark.parametrize(("parsed", "belongs"), [("Yes", True), ("No", False), (None, None)])
def test_the_reply_becomes_a_row(parsed, belongs):
    value = Belonging(belongs=parsed) if parsed else None
    row = CleanTask({}).result(ROW, Parsed(value=value), "m")
    assert row == {"query_id": "q", "task": ROW["task"], "doc_id": "d", "belongs": belongs, "cleaner": "m"}
