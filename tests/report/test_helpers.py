"""Every function of kvt that a page uses is on that page."""

import pytest
from nbformat import NotebookNode

from kvt.report import helpers
from tests.report.pages import code, executed, markdown, page


def test_names_lead_to_their_source_through_aliases_and_packages() -> None:
    cells = [
        code("import kvt\nfrom kvt.compare import parity as p\nkvt.fit(p.compare)"),
        code("from kvt.training import History\nHistory.history"),
        code("from kvt.compare.results import DIALECTS\nother.fit(DIALECTS)"),
    ]
    found = {
        name.rpartition(".")[2]: source for name, source in helpers.used(cells).items()
    }
    assert sorted(found) == ["History", "compare", "fit"]
    assert found["fit"].startswith("def fit(")
    assert found["compare"].startswith("def compare(")
    assert "class History" in found["History"]


def test_a_class_keeps_its_decorators() -> None:
    found = helpers.used([code("from kvt.show import tables\ntables.Table")])
    assert found["kvt.show.tables.Table"].startswith("@dataclass(frozen=True)\nclass")


def test_what_an_output_shows_is_not_shown_again() -> None:
    cell = code("import kvt\nkvt.fit")
    (source,) = helpers.used([cell]).values()
    shown = code("sources.code(fit)", text__markdown=f"```python\n{source}\n```")
    assert not helpers.used([cell, shown])


USES = code("import kvt\nkvt.evaluate")


@pytest.mark.parametrize(
    ("cells", "shows"),
    [([USES], True), ([code("evaluate = 1"), markdown("kvt.evaluate")], False)],
)
def test_a_page_shows_the_helpers_that_it_uses(
    cells: list[NotebookNode], *, shows: bool
) -> None:
    text = page(executed(*cells))
    assert ('id="helpers"' in text) == shows
    assert ("def evaluate(" in text) == shows
