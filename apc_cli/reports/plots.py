"""Two plots as SVG that stands in an HTML page: intervals by system, and a curve over k."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10

from markupsafe import Markup, escape

from apc_cli.reports.terminal import safe

Interval = tuple[float, float, float]
"""(mean, low, high)."""

COLOURS = ("#2563a8", "#c2571a", "#3f7d3a", "#7a4ea3", "#8a6d1f", "#5b6470")
_ROW, _WIDTH, _MARGIN = 26, 760, 40


def interval_plot(rows: Mapping[str, Interval], title: str) -> Markup:
    """One dot with its interval for each name, on a common axis through zero."""
    label = 12 + 7 * max((len(name) for name in rows), default=0)
    scale = _Scale([0.0, *(x for row in rows.values() for x in row)], label, _WIDTH - _MARGIN)
    height = _ROW * len(rows) + 46
    parts = [_axis_x(scale, height - 26)]
    for number, (name, (mean, low, high)) in enumerate(rows.items()):
        y = 14 + _ROW * number
        parts.append(_text(label - 10, y + 4, name, anchor="end"))
        parts.append(_line(scale(low), y, scale(high), y, COLOURS[0], 2))
        parts.append(
            _dot(scale(mean), y, COLOURS[0], f"{name}: {mean:+.3f} ({low:+.3f} … {high:+.3f})")
        )
    return _svg(parts, height, title)


def curve_plot(curves: Mapping[str, Mapping[int, Interval]], title: str, x_title: str) -> Markup:
    """One line with interval bars for each name, over whole numbers."""
    height, left, bottom = 300, 56, 250
    xs = sorted({x for points in curves.values() for x in points})
    across = _Scale([min(xs), max(xs)], left + 14, _WIDTH - 190, padded=False)
    values = [v for points in curves.values() for row in points.values() for v in row]
    up = _Scale(values, bottom, 16)
    parts = [_axis_y(up, left, _WIDTH - 180)]
    parts += [_text(across(x), bottom + 18, str(x), anchor="middle") for x in xs]
    parts.append(_text((left + _WIDTH - 190) / 2, bottom + 40, x_title, anchor="middle"))
    for number, (name, points) in enumerate(curves.items()):
        colour, shift = COLOURS[number % len(COLOURS)], 3 * number
        places = [(across(x) + shift, *map(up, points[x])) for x in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in places)
        parts.append(Markup('<polyline points="{}" fill="none" stroke="{}"/>').format(path, colour))
        for x, (place, y, low, high) in zip(sorted(points), places, strict=True):
            parts.append(_line(place, low, place, high, colour, 1))
            parts.append(_dot(place, y, colour, f"{name}, {x}: {points[x][0]:+.3f}"))
        parts.append(_text(_WIDTH - 170, 20 + 20 * number, name, colour=colour))
    return _svg(parts, height, title)


class _Scale:
    """Maps values to places between two ends of the picture."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, *, padded: bool = True
    ) -> None:
        low, high = min(values), max(values)
        pad = 0.06 * (high - low) if padded else 0.0
        if high - low < 1e-9:
            pad = max(0.5, abs(high) / 10)
        self.low, self.high, self.start, self.end = low - pad, high + pad, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round values inside the scale."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** floor(log10(rough))
        step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
        first, last = ceil(self.low / step), floor(self.high / step)
        return [n * step for n in range(first, last + 1)]


def _axis_x(scale: _Scale, y: float) -> Markup:
    parts = [_line(scale.start, y, scale.end, y, "#999", 1)]
    for tick in scale.ticks():
        colour = "#999" if abs(tick) < 1e-9 else "#e3e3e3"
        parts.append(_line(scale(tick), 4, scale(tick), y, colour, 1))
        parts.append(_text(scale(tick), y + 18, f"{tick:+.3g}", anchor="middle"))
    return Markup("").join(parts)


def _axis_y(scale: _Scale, left: float, right: float) -> Markup:
    parts = []
    for tick in scale.ticks():
        parts.append(_line(left, scale(tick), right, scale(tick), "#e3e3e3", 1))
        parts.append(_text(left - 6, scale(tick) + 4, f"{tick:+.3g}", anchor="end"))
    return Markup("").join(parts)


def _svg(parts: Sequence[Markup], height: float, title: str) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'font-size="12" font-family="sans-serif" xmlns="http://www.w3.org/2000/svg">{}</svg>'
    ).format(_WIDTH, height, safe(title), Markup("").join(parts))


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> Markup:
    return Markup(
        '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"/>'
    ).format(x1, y1, x2, y2, colour, width)


def _dot(x: float, y: float, colour: str, note: str) -> Markup:
    return Markup(
        '<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"><title>{}</title></circle>'
    ).format(x, y, colour, safe(note))


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}">{}</text>').format(
        x, y, anchor, colour, escape(safe(text))
    )
