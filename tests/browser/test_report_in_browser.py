"""Reports as a reader meets them, in headless Chromium: nothing asked for, nothing complained about."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chromium import Browser, chromium
from harness.analysis.call_tree import Call
from harness.analysis.pool import PoolSession, judge_pool
from harness.analysis.pool_tables import PoolReport
from harness.analysis.tables import render
from harness.core.mappings import Mappings
from harness.report.call_graphs import CellTree, call_graphs
from harness.report.matrix_page import MatrixReport, matrix_page
from harness.report.page import Page, Section, render_page
from harness.report.pool_page import PoolStory, pool_page
from report_data import matrix, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.title = 'run'</script><img src=//x.invalid/ onerror=alert(1)>\u202e"
NAMES = ("small", "short", "large", "hostile", "pool")
OLD_NEW = ("OLD", "NEW")
WIDE, NARROW = 1280, 360


@pytest.fixture(scope="module")
def small() -> MatrixReport:
    return report(cells=matrix(["randread"], ["4k", "128k"], [1, 8]), blocks=22,
                  noise_floor={("randread", "4k", 1): 0.012})  # fmt: skip


@pytest.fixture(scope="module")
def pages(small: MatrixReport) -> Iterator[dict[str, Path]]:
    """Pages: of a run, a short one, one with many cells and variants, of hostile names, of pool-growth."""
    variants = ("master", "batch8", "batch16", "one with a name that goes on for rather long")
    cells = matrix(["randread"], ["4k", "64k"], [2**power for power in range(10)])
    hostile = ("OLD" + HOSTILE, "NEW" + HOSTILE)
    made = {
        "small": matrix_page(small),
        # Two blocks: too few for any interval.
        "short": matrix_page(report(cells=matrix(["randread"], ["4k"], [1, 8]), blocks=2)),
        "large": matrix_page(report(variants, cells, blocks=6, readings=20, percentiles=["clat_p99_ns"])),
        "hostile": matrix_page(report(hostile, [("randread" + HOSTILE, "4k", 1)], blocks=8, text=HOSTILE)),
        "pool": pool_page(PoolStory("pool", pool(), small.story.background)) if small.story else None,
    }
    with tempfile.TemporaryDirectory() as directory:
        found = {name: Path(directory) / f"{name}.html" for name in NAMES}
        for name, page in made.items():
            assert page is not None
            found[name].write_text(render_page(page))
        yield found


def pool() -> PoolReport:
    old = PoolSession(
        tuple(Mappings(8000 * n, 4000 * n) for n in range(1, 9)), "SIGABRT (no memory)", "no memory",
        Mappings(65500, 32700),
    )  # fmt: skip
    new = PoolSession(tuple(Mappings(6500, 3000) for _round in range(10)))
    judged = [judge_pool(n, [s], in_flight=4096, limit=65530) for n, s in (("OLD", old), ("NEW", new))]
    return PoolReport(tuple(judged), 4096, 65530, (), ("Measured under TCG (emulation): slow.",), {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as window:
        yield window


@pytest.fixture(autouse=True)
def nothing_is_complained_about(browser: Browser) -> Iterator[None]:
    """Whatever a test opens, the page asks for nothing but itself, and the console stays empty."""
    browser.emulate(width=WIDE)
    yield
    assert browser.complaints() == []
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file"}


def undrawn(browser: Browser) -> list[str]:
    """Return the charts in sight that are no SVG with text in it."""
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('figure')]"
        ".filter((f) => !f.closest('details:not([open])') && !f.querySelector('svg text'))"
        ".map((f) => f.querySelector('figcaption').textContent)"
    )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_is_drawn_as_text_and_lines(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert undrawn(browser) == []
    assert browser.run("return document.querySelectorAll('svg').length") >= 2
    assert browser.run("return document.querySelectorAll('canvas, img').length") == 0
    assert [u for u in browser.requests() if not u.startswith("data:")] == [pages[name].as_uri()]


def test_the_numbers_are_those_of_the_json(
    browser: Browser, pages: dict[str, Path], small: MatrixReport
) -> None:
    browser.open(pages["small"])
    rows: list[dict[str, Any]] = browser.run(
        """
        return [...document.querySelectorAll('table[data-table="iops-0"] tbody tr')].map((row) =>
          Object.fromEntries([...row.children].flatMap((cell) => {
            const value = cell.querySelector('data')?.value;
            const own = [cell.dataset.column, value === undefined ? cell.textContent : Number(value)];
            const bounds = cell.dataset.low === undefined
              ? [] : [['ci_low', Number(cell.dataset.low)], ['ci_high', Number(cell.dataset.high)]];
            return [own, ...bounds];
          })));
        """
    )
    document = json.loads(render(small.comparisons[0], "json"))
    expected = [*document["cells"], document["pooled"]]
    names = ("change", "ci_low", "ci_high", "verdict", "mde", "n_blocks")
    assert [[row[name] for name in names] for row in rows] == [[e[name] for name in names] for e in expected]
    cells = [(row["baseline"], row["contender"], row["p_adjusted"]) for row in rows[:-1]]
    assert cells == [(e["baseline"], e["contender"], e["p_adjusted"]) for e in document["cells"]]


def test_the_drawn_changes_are_those_of_the_table(
    browser: Browser, pages: dict[str, Path], small: MatrixReport
) -> None:
    browser.open(pages["small"])
    x = browser.run(
        "return [...document.querySelectorAll('#change svg .mark-symbol.role-mark path')]"
        ".map((p) => p.getBoundingClientRect()).map((r) => r.x + r.width / 2)"
    )
    changes = [*small.comparisons[0].frames["NEW"]["change"], small.comparisons[0].pooled("NEW")["change"]]
    step = (x[1] - x[0]) / (changes[1] - changes[0])
    assert x == pytest.approx([x[0] + step * (change - changes[0]) for change in changes], abs=0.6)
    assert step > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_phone_never_scrolls_sideways(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.emulate(width=NARROW)
    browser.open(pages[name])
    assert browser.run("return document.documentElement.scrollWidth") == NARROW
    assert undrawn(browser) == []
    widest = browser.run(
        "const edges = [...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().right);"
        "return Math.max(...edges)"
    )
    assert widest <= NARROW


def colours(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "const c = (s, p) => getComputedStyle(document.querySelector(s))[p];"
        "return [c('body', 'backgroundColor'), c('body', 'color'), c('svg text', 'fill'),"
        "c('.mark-symbol.role-mark path', 'fill')];"
    )
    return found


def test_dark_is_dark_without_a_second_drawing(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["small"])
    light = colours(browser)
    browser.emulate(width=WIDE, dark=True)
    dark = colours(browser)
    assert all(one != other for one, other in zip(light, dark, strict=True))
    page, text = [(brightness(light[at]), brightness(dark[at])) for at in (0, 2)]
    assert page[0] > 200
    assert page[1] < 60
    assert text[0] < 60
    assert text[1] > 200


def brightness(colour: str) -> float:
    channels = colour.partition("(")[2].rstrip(")").split(",")[:3]
    return sum(float(channel) for channel in channels) / 3


_CONTRASTS = """
const luminance = (rgb) => {
  const [r, g, b] = rgb.match(/[\\d.]+/g).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const probe = document.createElement('p');
document.body.append(probe);
const seen = (name) => {
  probe.style.color = `var(${name})`;
  return luminance(getComputedStyle(probe).color);
};
const back = [seen('--page'), seen('--card')];
const found = Object.fromEntries(arguments[0].map((name) => {
  const own = seen(name);
  const ratio = (other) => (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
  return [name, Math.min(...back.map(ratio))];
}));
probe.remove();
return found;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_what_is_behind(
    browser: Browser,
    pages: dict[str, Path],
    dark: bool,  # noqa: FBT001 - the test's parameter
) -> None:
    browser.emulate(width=WIDE, dark=dark)
    browser.open(pages["pool"])
    read = ["--text", "--muted", "--link", "--better", "--worse", "--same", "--unclear", "--warning"]
    drawn = [f"--series-{number}" for number in range(1, 9)]
    found = browser.run(_CONTRASTS, [*read, *drawn])
    # WCAG 2: 4.5 for text, 3 for what is drawn.
    assert {name: ratio for name, ratio in found.items() if ratio < (4.5 if name in read else 3)} == {}


@pytest.mark.parametrize("name", ["small", "hostile"])
def test_a_dot_tells_its_session_when_it_is_pointed_at(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name])
    x, y = browser.run(
        "const dot = document.querySelector('#sessions svg .mark-symbol.role-mark path');"
        "dot.scrollIntoView({block: 'center'}); const r = dot.getBoundingClientRect();"
        "return [r.x + r.width / 2, r.y + r.height / 2];"
    )
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    tooltip = browser.wait("return document.querySelector('#vg-tooltip-element.visible')?.textContent")
    assert "session" in tooltip
    assert "IOPS" in tooltip
    if name == "hostile":
        assert "<script>" in tooltip
        assert browser.run("return document.querySelectorAll('img').length") == 0
        assert "<script>" in browser.driver.title


def test_charts_that_were_folded_away_are_drawn_when_unfolded(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["large"])
    folded = "#sessions details .chart"
    assert browser.run(f"return document.querySelectorAll('{folded} svg').length") == 0
    browser.run("document.querySelector('#sessions details').open = true")
    browser.run("document.querySelector('#sessions details').scrollIntoView()")
    browser.wait(f"return document.querySelectorAll('{folded} svg').length > 0")


def test_paper_is_light_and_holds_every_chart(browser: Browser, pages: dict[str, Path]) -> None:
    browser.emulate(width=WIDE, dark=True, media="print")
    browser.open(pages["small"])
    assert undrawn(browser) == []
    assert brightness(colours(browser)[0]) == 255
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_how_long_it_takes_to_open(
    browser: Browser, pages: dict[str, Path], record_property: Callable[[str, object], None]
) -> None:
    """A benchmark: the figures go into the test report, a busy host must not fail."""
    for name in NAMES:
        browser.open(pages[name])
        load_ms, all_drawn_ms = browser.run(
            "return [performance.getEntriesByType('navigation')[0].loadEventEnd,"
            "performance.getEntriesByName('drawn')[0].startTime]"
        )
        record_property(f"{name}: load, ms", round(load_ms))
        record_property(f"{name}: every chart drawn, ms", round(all_drawn_ms))
        assert 0 < load_ms <= all_drawn_ms


def calls(name: str, old: float, new: float, *below: Call) -> Call:
    own = [total - sum(getattr(call, side) for call in below) for total, side in ((old, "old"), (new, "new"))]
    return Call(name, "qemu", old, new, own[0], own[1], below)


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """The part of a page that shows calls, without any chart, so without any script."""
    tree = calls(
        "a request", 4000, 9000, calls("pop", 1000, 6000, calls("memset", 0, 5000)), calls("push", 3000, 3000)
    )
    cells = [CellTree(f"iodepth {depth}", OLD_NEW, tree) for depth in (1, 64)]
    page = tmp_path / "counts.html"
    page.write_text(render_page(Page("t", "here", "said", [Section("calls", "Calls", call_graphs(cells))])))
    return page


BOX = "document.querySelectorAll('.icicle')[arguments[0]]"


@pytest.mark.parametrize("dark", [False, True])
def test_icicle_graphs_are_boxes_as_wide_as_they_cost(browser: Browser, counts: Path, *, dark: bool) -> None:
    browser.emulate(width=WIDE, dark=dark)
    browser.open(counts)
    boxes = browser.run(
        f"""
        return Object.fromEntries([...{BOX}.querySelectorAll('svg > svg')].map((box) =>
          [box.querySelector('text').textContent, {{
            width: box.querySelector('rect').getBoundingClientRect().width,
            colour: getComputedStyle(box.querySelector('rect')).fill,
            title: box.querySelector('title').textContent}}]));
        """,
        0,
    )
    assert set(boxes) == {"a request", "pop", "memset", "push"}
    assert boxes["memset"]["width"] == pytest.approx(boxes["a request"]["width"] * 5 / 9, rel=0.01)
    assert boxes["memset"]["title"] == "memset (qemu): OLD 0, NEW 5,000, +5,000; 55.6% of a request"
    assert boxes["push"]["colour"] != boxes["memset"]["colour"], "the same is grey, more is red"
    assert browser.run("return document.querySelectorAll('script').length") == 0
    assert browser.run("return window.find('memset')"), "the browser's own search finds functions"


def test_icicle_graphs_fit_a_phone_and_are_there_as_tables(browser: Browser, counts: Path) -> None:
    browser.emulate(width=NARROW)
    browser.open(counts)
    assert browser.run("return document.documentElement.scrollWidth") <= NARROW
    assert browser.run(f"return {BOX}.querySelector('.scroll').scrollWidth > {NARROW}", 0), (
        "it scrolls by itself"
    )
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    rows = browser.run(
        "return [...document.querySelectorAll('table[data-table=calls-0] tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent.trim()))"
    )
    assert ["· · memset", "qemu", "0", "5000", "+5000", "+5000"] in rows
    assert browser.run("return document.querySelectorAll('.icicle').length") == 6
