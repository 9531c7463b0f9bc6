"""Owns the picture of benches/scale: microseconds an entry over the number of entries, both axes logarithmic."""
import math
import statistics
from html import escape

PANELS = {
    "first pass": "First pass",
    "sweep": "Sweep, nothing changed",
    "storm": "Untar, until it has followed",
}
# Colours that the colour-blind tell apart (Okabe and Ito), and a mark for each.
LOOKS = {
    "driftless": ("a", "circle"),
    "cp -a": ("b", "square"),
    "rsync -a": ("c", "triangle"),
    "lsyncd rsync": ("d", "cross"),
}
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .line { fill: none; stroke-width: 2 } .reach { stroke-width: 1 }
  .a { stroke: #0072b2 } .b { stroke: #a35a00 } .c { stroke: #00785a } .d { stroke: #b0468a }
  .mark.a, text.a { fill: #0072b2 } .mark.b, text.b { fill: #a35a00 } .mark.c, text.c { fill: #00785a }
  .mark.d, text.d { fill: #b0468a } text.a, text.b, text.c, text.d { stroke: none } text.a { font-weight: 600 }
  .open.a, .open.b, .open.c, .open.d { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d }
    .a { stroke: #56b4e9 } .b { stroke: #e69f00 } .c { stroke: #2fc79f } .d { stroke: #e08fc0 }
    .mark.a, text.a { fill: #56b4e9 } .mark.b, text.b { fill: #e69f00 } .mark.c, text.c { fill: #2fc79f }
    .mark.d, text.d { fill: #e08fc0 }
  }
"""
LEFT, TOP, WIDTH, HEIGHT = 58, 58, 196, 270
PITCH = WIDTH + 102  # room for the names at the lines' ends
LINE = 15  # between two names


def draw(data: dict) -> str:
    points = data["points"]
    costs = [second / point["entries"] * 1e6 for point in points for second in point["seconds"]]
    x = _scale([point["entries"] for point in points], LEFT, LEFT + WIDTH)
    y = _scale(costs, TOP + HEIGHT, TOP)
    width, height = LEFT + 3 * PITCH, TOP + HEIGHT + 84
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Microseconds an entry over the number of entries">',
        f"<style>{STYLE}</style>",
        _text(8, 20, "Microseconds an entry: level where the cost does not grow with the tree", "title"),
    ]
    for column, (what, title) in enumerate(PANELS.items()):
        lines.append(f'<g transform="translate({column * PITCH} 0)">')
        lines += _frame(x, y, title)
        lines += _tools([point for point in points if point["what"] == what], x, y)
        lines.append("</g>")
    folder = next((point["entries"] for point in points if point["shape"] != "spread"), None)
    legend = f"◇ all of the {folder:,} entries in one folder. " if folder else ""
    if any(_ends_early(points, what) for what in PANELS):
        legend += "A line ends where the next would have taken longer than five minutes. "
    lines.append(_text(LEFT, height - 44, legend, "small"))
    lines.append(_text(LEFT, height - 26, f"{data['machine']}; {data['date']}", "small"))
    lines.append(_text(LEFT, height - 10, data["versions"], "small"))
    return "\n".join(lines) + "\n</svg>\n"


def _ends_early(points: list[dict], what: str) -> bool:
    sizes = [[p["entries"] for p in points if p["tool"] == tool and p["what"] == what] for tool in LOOKS]
    return len({max(of_tool) for of_tool in sizes if of_tool}) > 1


def _scale(values: list[float], start: float, end: float):
    """A function from values to places, with `ticks` on it: 1, 2 and 5 times powers of ten."""
    steps = [base * 10**power for power in range(-3, 9) for base in (1, 2, 5)]
    low = max((step for step in steps if step <= min(values) * 1.001), default=min(values))
    high = min((step for step in steps if step >= max(values) * 0.999), default=max(values))
    high = high if high > low else low * 10
    span = math.log(high / low)

    def place(value: float) -> float:
        return round(start + (end - start) * math.log(value / low) / span, 1)

    place.ticks = [step for step in steps if low * 0.999 <= step <= high * 1.001]
    return place


def _frame(x, y, title: str) -> list[str]:
    lines = [_text(LEFT, TOP - 14, title, "title")]
    for tick in y.ticks:
        lines.append(f'<path class="grid" d="M{LEFT} {y(tick)}h{WIDTH}"/>')
        lines.append(_text(LEFT - 8, y(tick) + 4, f"{tick:g}", "small", "end"))
    for tick in x.ticks:
        lines.append(f'<path class="grid" d="M{x(tick)} {TOP + HEIGHT}v5"/>')
        if math.log10(tick).is_integer():
            lines.append(_text(x(tick), TOP + HEIGHT + 20, f"{tick:,}", "small", "middle"))
    return lines


def _tools(points: list[dict], x, y) -> list[str]:
    lines, names = [], []
    for tool, (colour, mark) in LOOKS.items():
        of_tool = sorted((p for p in points if p["tool"] == tool), key=lambda point: point["entries"])
        along = []
        for point in of_tool:
            costs = [second / point["entries"] * 1e6 for second in point["seconds"]]
            at, cost = x(point["entries"]), y(statistics.median(costs))
            if point["shape"] != "spread":
                lines.append(f'<path class="open {colour}" d="M{at} {cost - 6}l6 6l-6 6l-6-6z"/>')
                continue
            along.append((at, cost))
            lines.append(f'<path class="reach {colour}" d="M{at} {y(min(costs))}V{y(max(costs))}"/>')
            lines.append(_mark(mark, colour, at, cost))
        if along:
            lines.append(f'<path class="line {colour}" d="M{" L".join(f"{at} {cost}" for at, cost in along)}"/>')
            names.append((along[-1][1], along[-1][0], tool, colour))
    last = -math.inf
    for cost, at, tool, colour in sorted(names):
        last = max(cost, last + LINE)
        lines.append(_text(at + 9, round(last + 4, 1), tool, colour))
    return lines


def _mark(mark: str, colour: str, at: float, cost: float) -> str:
    shapes = {
        "circle": f"M{at - 4} {cost}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "square": f"M{at - 3.5} {cost - 3.5}h7v7h-7z",
        "triangle": f"M{at} {cost - 5}l5 8h-10z",
        "cross": f"M{at - 4} {cost - 4}l8 8m0 -8l-8 8",
    }
    return f'<path class="mark {colour}" d="{shapes[mark]}"/>'


def _text(at: float, line: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{at}" y="{line}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
