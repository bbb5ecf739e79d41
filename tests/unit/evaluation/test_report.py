import re

import pytest
from evaluation_tables import measures

from reasonembed.config import Config
from reasonembed.evaluation.metrics import Interval, means
from reasonembed.evaluation.report import (
    MeasuredSystem,
    ReportPage,
    RunSummary,
    render_page,
    terminal_table,
    verdict,
)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.1, 0.05, 0.2, 0.001), "new is better than old"),
        (Interval(-0.1, -0.2, -0.05), "new is worse than old"),
        (Interval(0.1, -0.1, 0.2, 0.2), "includes zero"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval_allows(interval, expected):
    assert expected in verdict("new", "old", interval)


@pytest.fixture
def page():
    table = measures([0.5, 1.0])
    scores = means(table)
    example = {
        "query": "<script>x</script>",
        "reasoning_query": "r",
        "positive": "p",
        "positive_score": 0.9,
        "negative": "n",
        "negative_score": 0.1,
    }
    run_summary = RunSummary(
        stages=[{"stage": "mine", "rows": 5, "rejected": 1, "reasons": "1 bad", "seconds": 1.5}],
        history=[{"loss": 1.0, "infonce": 1.0, "infonce_rewrite": 0.5}] * 3,
        intensity=[1.0, 2.0],
        grades={3: 4},
        examples=[example],
    )
    systems = [MeasuredSystem("base", scores, table), MeasuredSystem("trained", scores, table)]
    return ReportPage("A title", "pydocs", systems, Config(), run_summary=run_summary)


def test_the_report_is_one_file_with_all_parts_and_escapes_its_data(page):
    text = render_page(page)
    assert text.count("<svg") == 5
    assert text.count("<script") == 1, "a text of the data must not become a script"
    assert not re.search(r"(src|href)=[\"'](?!#|data:,)", text), "an external resource would be loaded"
    for part in ("A title", "mine", "1 bad", "trained − base", "includes zero"):
        assert part in text
    assert page.difference["average"].value == 0


def test_the_terminal_table_has_every_system_and_the_difference(page):
    table = terminal_table(page)
    assert [column.header for column in table.columns] == ["system", "t", "average"]
    assert list(table.columns[0].cells) == ["base", "trained", "trained - base"]
    assert list(table.columns[2].cells)[1].startswith("75.0\n")
    assert list(table.columns[2].cells)[2] == "+0.0\n+0.0 … +0.0"
