"""Vega-Lite, the plotting library: its code, the page's theme for it, and what a chart is.

Why Vega-Lite: it draws SVG, so that text is text; a chart is data (JSON) and not code; it has tooltips and
descriptions for screen readers; with its expression interpreter it needs no ``eval``; and with colours that
are CSS variables one drawing serves light, dark and paper. vl-convert-python carries its code, 0.9 MB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

_VERSION = "6.1"
_SERIES = 8
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

CONFIG: Spec = {
    "font": _FONT,
    "background": "transparent",
    "autosize": {"type": "fit-x", "contains": "padding"},
    "padding": {"left": 2, "right": 6, "top": 4, "bottom": 2},
    "view": {"stroke": "var(--line)"},
    "axis": {
        "labelColor": "var(--text)", "titleColor": "var(--text)", "gridColor": "var(--line)",
        "domainColor": "var(--faint)", "tickColor": "var(--faint)", "labelFontSize": 11.5,
        "titleFontSize": 11.5, "titleFontWeight": "normal", "labelLimit": 190, "titlePadding": 6,
    },
    "legend": {
        "labelColor": "var(--text)", "titleColor": "var(--text)", "labelFontSize": 12, "orient": "top",
        "title": None, "labelLimit": 220, "columns": 3,
    },
    "text": {"color": "var(--text)", "fontSize": 11.5},
    "rule": {"color": "var(--faint)"},
    "point": {"filled": True, "size": 46, "opacity": 1},
}  # fmt: skip
"""The theme: every colour is a variable of the page's style sheet."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        title: what it shows, above it.
        summary: the same in a sentence, for who cannot see it.
        spec: Vega-Lite, without data; its ``height`` is in pixels.
        columns: the data: a list a field, all of the same length.
        note: how to read it, below.
    """

    title: str
    summary: str
    spec: Spec
    columns: Mapping[str, Sequence[Any]]
    note: str = ""

    @property
    def height(self) -> int:
        """About how high it will be, pixels: room that is kept until it is drawn."""
        given = self.spec.get("height")
        return (given if isinstance(given, int) else 240) + 60

    @property
    def payload(self) -> Spec:
        """What the page's script draws: without layers that nothing of the data would be seen in.

        Where there are too few sessions for any interval the library complains of an axis without an extent.
        """
        layers = self.spec.get("layer")
        if layers is None:
            return {"spec": self.spec, "columns": self.columns}
        drawn = [layer for layer in layers if not self._is_empty(layer)]
        return {"spec": {**self.spec, "layer": drawn}, "columns": self.columns}

    def _is_empty(self, layer: Spec) -> bool:
        places = (layer.get("encoding", {}).get(channel, {}).get("field") for channel in ("x", "y"))
        columns = [self.columns[field] for field in places if field in self.columns]
        return any(all(value is None for value in column) for column in columns)


def series_colours(names: Sequence[str]) -> Spec:
    """Return a colour scale for variants, in their order."""
    return {"domain": list(names), "range": [f"var(--series-{i % _SERIES + 1})" for i in range(len(names))]}


def series_shapes(names: Sequence[str]) -> Spec:
    """Return a shape scale for variants: the same for who does not see the colours."""
    return {"domain": list(names), "range": [_SHAPES[i % len(_SHAPES)] for i in range(len(names))]}


@lru_cache(maxsize=1)
def library() -> str:
    """Return the library's code: an ES module that leaves ``vegaEmbed`` behind."""
    import vl_convert

    code: str = vl_convert.javascript_bundle("globalThis.vegaEmbed = vegaEmbed;", vl_version=_VERSION)
    # Nothing in it may end the element that it stands in.
    return code.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def svg(charts: Sequence[Chart], colours: Mapping[str, str], width_px: int = 720) -> str:
    """Return charts, one below the other, as an SVG that stands by itself, on white.

    Args:
        charts: what to draw.
        colours: of the page's variables (``--text``), as its style sheet has them.
        width_px: how wide, without the axis of values.
    """
    import orjson
    import vl_convert

    drawn = [
        {"title": chart.title, "width": width_px, "data": {"values": _rows(chart)}, **chart.payload["spec"]}
        for chart in charts
    ]
    # What is put together fits itself into no box, and shares no colours.
    config = {name: value for name, value in CONFIG.items() if name != "autosize"} | {"background": "white"}
    spec = {"vconcat": drawn, "config": config, "resolve": {"scale": {"color": "independent"}}}
    plain = re.sub(r"var\((--[\w-]+)\)", lambda match: colours[match[1]], orjson.dumps(spec).decode())
    image: str = vl_convert.vegalite_to_svg(plain, vl_version=_VERSION)
    return image


def _rows(chart: Chart) -> list[Spec]:
    return [dict(zip(chart.columns, row, strict=True)) for row in zip(*chart.columns.values(), strict=True)]
