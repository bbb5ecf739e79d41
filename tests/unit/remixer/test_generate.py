from reasonembed.llm.protocol import Parsed
from reasonembed.remixer.conditions import EDUCATION_WORDS, LENGTH_WORDS
from reasonembed.remixer.generate import DEFAULT_INSTRUCTION, GeneratedQuery, GenerateTask

ROW = {"query_id": "q", "task": "t", "doc_id": "d", "title": "", "text": "body"}
PARSED = Parsed(value=GeneratedQuery(query="?"))


def test_a_query_carries_the_conditions_that_its_prompt_named():
    task = GenerateTask({"t": "find it"}, seed=3)
    fields, result = task.request(ROW).fields, task.result(ROW, PARSED, "m")
    assert fields["length"] == LENGTH_WORDS[result["length_band"]]
    assert fields["education"] == EDUCATION_WORDS[result["education"]]
    assert result["instruction"] == fields["instruction"] == "find it"
    assert (fields["title"], fields["document"]) == ("", "body")
    assert (result["query"], result["source_doc_id"], result["generator"]) == ("?", "d", "m")


def test_without_a_seed_there_are_no_conditions():
    task = GenerateTask({}, seed=None)
    result = task.result(ROW, PARSED, "m")
    assert (result["length_band"], result["education"]) == (None, None)
    assert task.request(ROW).fields["length"] == "any"


def test_a_task_without_an_instruction_has_the_default_one():
    task = GenerateTask({"other": "find it"}, seed=3)
    assert task.request(ROW).fields["instruction"] == DEFAULT_INSTRUCTION
    assert task.result(ROW, PARSED, "m")["instruction"] == DEFAULT_INSTRUCTION


def test_a_rejected_row_has_no_query():
    assert GenerateTask({}, seed=3).result(ROW, Parsed(reject_reason="x"), "m")["query"] is None
