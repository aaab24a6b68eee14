"""A bar chart as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from bench.report import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, LABELS, VALUES = 760, 190, 190
LINE, BAR, HEAD, GAP = 22, 14, 30, 14
OURS, OTHERS = "#c2410c", "#64748b"


class Bar(NamedTuple):
    """A row of a chart; ``spread`` runs from the lowest to the highest run."""

    label: str
    value: float
    spread: tuple[float, float]
    note: str
    ours: bool


def render(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Return a chart of groups, each with a scale of its own: they differ a hundredfold."""
    height = 40 + sum(HEAD + LINE * len(bars) + GAP for _, bars in groups)
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12"',
        f'  viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>{escape(title)}</title>",
        # A ground of its own: the page around it may be dark.
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    top = 40
    for name, bars in groups:
        lines.append(f'<text x="10" y="{top + 18}" font-weight="bold">{escape(name)}</text>')
        top += HEAD
        most = max((bar.spread[1] for bar in bars), default=0) or 1
        for bar in bars:
            lines += _bar(bar, top, (WIDTH - LABELS - VALUES) / most)
            top += LINE
        top += GAP
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: Bar, top: int, scale: float) -> Iterator[str]:
    middle, baseline = top + BAR / 2, top + BAR - 2
    low, high = (LABELS + end * scale for end in bar.spread)
    yield f'<text x="{LABELS - 8}" y="{baseline}" text-anchor="end">{escape(bar.label)}</text>'
    yield (
        f'<rect x="{LABELS}" y="{top}" width="{bar.value * scale:.1f}" height="{BAR}" '
        f'fill="{OURS if bar.ours else OTHERS}"/>'
    )
    yield (
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#0f172a" stroke-width="1.5" '
        'stroke-opacity="0.6"/>'
    )
    note = f"{short(bar.value)} µs{bar.note}"
    yield f'<text x="{high + 6:.1f}" y="{baseline}">{escape(note)}</text>'
