"""Reports: whatever text comes from outside stays text, the numbers are the table's, the size is bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html

from harness.analysis.tables import render
from harness.report.answer import answer
from harness.report.matrix_page import MatrixReport, matrix_page
from harness.report.page import (
    Cell,
    Charts,
    Code,
    Folded,
    Heading,
    Page,
    Points,
    Section,
    Table,
    Text,
    Tone,
    render_page,
)
from harness.report.run_charts import thinned
from harness.report.vega import Chart, series_colours, series_shapes
from report_data import matrix, report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.report.page import Block

HOSTILE = (
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\" onmouseover='alert(1)'",
    "{{ 7 * 7 }}{% raw %}", "]]><!--", "\u2028\u2029", "\u202e\x00\x1b[31m", "&amp;&lt;", "\ud800",
    "javascript:alert(1)", "<!--<script>", "</style><style>*{display:none}", "\\u003c",
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40))


def parsed(page: str) -> lxml_html.HtmlElement:
    return lxml_html.document_fromstring(page.encode())


@lru_cache(maxsize=1)
def ordinary() -> MatrixReport:
    return report()


def page_of(text: str) -> Page:
    """Return a page with a text wherever one can stand."""
    chart = Chart(text, text, {"mark": "point", "height": 20}, {"field": [text, None, 1.5]}, text)
    table = Table(
        text,
        [Heading(text, "name", text, names_row=True), Heading(text, "other")],
        [[Cell(text, note=text), Cell(text, 1.5, (1.0, 2.0), Tone.WORSE)]],
    )
    blocks: list[Block] = [
        Text(text),
        Points([text]),
        Code(text),
        table,
        Charts([chart]),
        Folded(text, [Code(text)]),
    ]
    return Page(text, text, text, [Section("part", text, blocks)], Tone.BETTER, [text])


def skeleton(tree: lxml_html.HtmlElement) -> list[tuple[str, list[str]]]:
    """Return every element with the names of its attributes, in order: what a text must not change."""
    return [(str(element.tag), sorted(element.attrib)) for element in tree.iter()]


@lru_cache(maxsize=1)
def plain_skeleton() -> list[tuple[str, list[str]]]:
    return skeleton(parsed(render_page(page_of("plain"))))


@given(text=texts)
@settings(max_examples=25)
def test_text_from_outside_is_text_wherever_it_stands(text: str) -> None:
    page = render_page(page_of(text))
    tree = parsed(page)
    assert skeleton(tree) == plain_skeleton()
    shown = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
    assert tree.xpath("//h1")[0].text == shown
    assert tree.xpath("//td//data")[0].text == shown
    payload = tree.xpath("//figure//script")[0].text
    assert json.loads(payload)["columns"]["field"] == [text, None, 1.5]
    page.encode()


def tags_of(names: tuple[str, ...], text: str) -> list[str]:
    made = report(names, blocks=6, text=text, readings=3, percentiles=["clat_p99_ns"])
    return [tag for tag, _attributes in skeleton(parsed(render_page(matrix_page(made))))]


@lru_cache(maxsize=2)
def plain_tags(variants: int) -> list[str]:
    return tags_of(tuple(f"V{number}" for number in range(variants)), "plain")


@given(names=st.lists(texts, min_size=2, max_size=3, unique=True), text=texts)
@settings(max_examples=5)
def test_a_whole_report_keeps_its_shape_whatever_names_it_holds(names: list[str], text: str) -> None:
    assert tags_of(tuple(names), text) == plain_tags(len(names))


def test_a_number_that_is_none_never_becomes_wrong_json() -> None:
    chart = Chart("", "", {"mark": "point"}, {"field": [float("nan")]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_page(Page("", "", "", [Section("part", "", [Charts([chart])])]))


@pytest.mark.parametrize("href", ["javascript:alert(1)", "https://example.invalid/", "//host/x", "data:,"])
def test_a_page_links_to_files_beside_it_only(href: str) -> None:
    assert Cell("run", href="../runs/x").href == "../runs/x"
    with pytest.raises(ValueError, match="is neither"):
        Cell("run", href=href)


def test_the_page_forbids_every_request_and_every_script_but_its_own() -> None:
    page = render_page(matrix_page(ordinary()))
    tree = parsed(page)
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    scripts = [s.text for s in tree.xpath("//script[@type='module']")]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert not tree.xpath("//link | //img | //iframe | //*[@src] | //*[@srcset]")
    assert all(href.startswith("#") for href in tree.xpath("//@href"))
    assert "url(" not in tree.xpath("//style")[0].text
    assert "@import" not in tree.xpath("//style")[0].text


def numbers(tree: lxml_html.HtmlElement, name: str) -> list[dict[str, Any]]:
    """Return a table's rows with the numbers behind them."""
    rows = []
    for row in tree.xpath(f"//table[@data-table='{name}']/tbody/tr"):
        found: dict[str, Any] = {}
        for cell in row:
            found[cell.get("data-column")] = cell.text_content()
            for data in cell.xpath(".//data"):
                found[cell.get("data-column")] = float(data.get("value"))
            if "data-low" in cell.attrib:
                found |= {"ci_low": float(cell.get("data-low")), "ci_high": float(cell.get("data-high"))}
        rows.append(found)
    return rows


def assert_equal_to_json(rows: list[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> None:
    for row, cell in zip(rows, expected, strict=True):
        for name in ("baseline", "contender", "change", "ci_low", "ci_high", "p_adjusted", "mde", "n_blocks"):
            if cell.get(name) is not None:
                assert row[name] == cell[name], name
        assert row["verdict"] == cell["verdict"]
        assert row["stray"] == f"{cell['stray_baseline']}+{cell['stray_contender']}"


def test_the_numbers_are_those_of_the_json() -> None:
    made = ordinary()
    document = json.loads(render(made.comparisons[0], "json"))
    rows = numbers(parsed(render_page(matrix_page(made))), "iops-0")
    assert_equal_to_json(rows, [*document["cells"], document["pooled"]])
    assert [row["iodepth"] for row in rows] == ["1", "8", ""]
    assert len(document["cells"]) == 2


def test_ten_cells_of_sixty_blocks_stay_below_5_megabytes() -> None:
    cells = matrix(["randread"], ["4k", "128k"], [1, 8, 16, 32, 64])
    page = render_page(matrix_page(report(cells=cells, blocks=60)))
    assert len(page.encode()) < 5e6
    dots = [
        json.loads(script.text)["columns"]
        for script in parsed(page).xpath("//section[@id='sessions']//figure//script")
    ]
    assert len(dots) == 10
    assert all(sorted(columns["order"]) == list(range(1, 121)) for columns in dots)


def test_every_stray_session_of_the_table_has_its_ring() -> None:
    made = report(cells=matrix(["randread"], ["4k"], [1, 8, 16]), blocks=40)
    assert made.story is not None
    tree = parsed(render_page(matrix_page(made)))
    frame = made.comparisons[0].frames["NEW"]
    rings = [
        sum(json.loads(script.text)["columns"]["stray"])
        for script in tree.xpath("//section[@id='sessions']//figure//script")
    ]
    assert rings == list(frame["stray"])
    assert sum(rings) > 0


def test_the_answer_names_what_changed_where_and_how_sure_it_is() -> None:
    said, tone = answer(ordinary().comparisons[0])
    assert re.fullmatch(
        r"NEW is slower than OLD in 1 of 2 cells \(randread 4k, iodepth 8: -\d+\.\d% "
        r"\[-\d+\.\d%, -\d+\.\d%\]; 95% interval\) and the same as OLD in 1 of 2 cells "
        r"\(within 2%\), measured on plain under TCG \(emulation\)\.",
        said,
    )
    assert tone is Tone.WORSE


def test_the_answer_says_why_there_is_no_verdict() -> None:
    made = report(no_verdict="the sessions differ in host.ksm")
    said, tone = answer(made.comparisons[0])
    assert said.startswith("No verdict on NEW against OLD, only estimates between -")
    assert said.endswith("under TCG (emulation): the sessions differ in host.ksm.")
    assert tone is Tone.UNCLEAR


def test_the_answer_says_how_blind_an_unclear_run_was() -> None:
    said, tone = answer(report(blocks=3).comparisons[0])
    assert said.startswith("Whether NEW is slower than OLD is unclear in both cells")
    assert tone is Tone.UNCLEAR


def test_a_build_against_itself_is_a_noise_floor() -> None:
    comparison = ordinary().comparisons[0]
    builds = {name: {"sha256": "1" * 64} for name in ("OLD", "NEW")}
    same = replace(comparison, environment={**comparison.environment, "builds": builds})
    said, _tone = answer(same)
    assert said.startswith("The same build against itself: this run cannot tell changes below ")
    story = ordinary().story
    page = render_page(matrix_page(MatrixReport("aa", [same], story)))
    assert "This run is a noise floor" in page


def test_results_without_sessions_have_no_empty_sections() -> None:
    made = ordinary()
    bare = MatrixReport("two", [replace(made.comparisons[0], no_verdict="elsewhere")], sources=["OLD: a.csv"])
    tree = parsed(render_page(matrix_page(bare)))
    assert [section.get("id") for section in tree.xpath("//section")] == [
        "results", "change", "iodepth", "sources",
    ]  # fmt: skip
    assert "there are estimates, and no intervals" in tree.text_content()


def test_what_was_not_measured_says_so() -> None:
    made = ordinary()
    assert made.story is not None
    story = replace(made.story, watched=(), percentiles=(), no_telemetry="this run has no telemetry")
    page = parsed(render_page(matrix_page(replace(made, story=story)))).text_content()
    assert "Not shown: this run has no telemetry." in page
    assert "Not shown: fio gave no percentiles" in page


@given(
    points=st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6)), min_size=1, max_size=300),
    most=st.integers(1, 50),
)
def test_a_thinned_line_keeps_its_peak(points: list[tuple[float, int]], most: int) -> None:
    kept = thinned(points, most)
    assert len(kept) <= most
    assert max(value for _at, value in kept) == max(value for _at, value in points)


def test_many_variants_differ_in_colour_or_shape() -> None:
    names = [f"v{number}" for number in range(8)]
    looks = list(zip(series_colours(names)["range"], series_shapes(names)["range"], strict=True))
    assert len(set(looks)) == 8
