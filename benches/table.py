"""Owns the table of benches/compare, and its place in the README."""
import hashlib
import re
import statistics
import sys
from pathlib import Path

from tools import NEVER

BLOCK = re.compile(r"<!-- benches/compare (\w+) -->\n(.*?)<!-- benches/compare ends -->\n", re.DOTALL)
FEWEST_ROWS = 12


def show(value: float, unit: str) -> str:
    if value == NEVER:
        return "never"
    if unit == "B":
        for size, name in (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"):
            if value >= size:
                return f"{digits(value / size)} {name}"
        return f"{value:.0f} B"
    return f"{digits(value)} s" if value >= 0.5 or value == 0 else f"{digits(value * 1000)} ms"


def digits(value: float) -> str:
    return f"{value:.0f}" if value >= 20 or value == 0 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def spread(values: list[float], shown) -> str:
    values = sorted(values)
    low, high = shown(values[0]), shown(values[-1])
    return shown(statistics.median(values)) + (f" ({low}–{high})" if low != high else "")


def cell(values: list[float], reference: list[float], unit: str, is_reference: bool) -> str:
    def absolute(value: float) -> str:
        return show(value, unit)

    if is_reference or min(reference, default=0) <= 0 or len(values) != len(reference):
        return spread(values, absolute)
    if NEVER in values:
        return "never" if min(values) == NEVER else f"{digits(min(values) / min(reference))}–never"
    return spread([value / base for value, base in zip(values, reference)], lambda ratio: f"×{digits(ratio)}")


def markdown(rows: dict, wrong: dict, names: list[str], reference: str) -> str:
    """`rows`: the values of all runs by what was measured and its unit, then by tool. `wrong`: what was not the same, by
    what was measured (nothing: all of it) and tool."""
    names = [name for name in names if any(name in row for row in rows.values())]
    lines = ["| | " + " | ".join(f"`{name}`" for name in names) + " |", "| --- |" + " --- |" * len(names)]
    notes: dict[str, str] = {}
    for (what, unit), row in rows.items():
        cells = []
        for name in names:
            text = cell(row[name], row.get(reference, []), unit, name == reference) if row.get(name) else ""
            if found := wrong.get((what, name)):
                text += f"<sup>{notes.setdefault(found, chr(ord('a') + len(notes)))}</sup>"
            cells.append(text)
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    after = [f"<sup>{letter}</sup> {found}  " for found, letter in notes.items()]
    after += [f"{name}: {found}  " for (what, name), found in wrong.items() if not what]
    return "\n".join([*lines, "", *after]).rstrip()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_readme(readme: Path, text: str) -> None:
    block = f"<!-- benches/compare {digest(text)} -->\n{text}<!-- benches/compare ends -->\n"
    new, found = BLOCK.subn(lambda _: block, readme.read_text())
    if found != 1:
        sys.exit(f"{readme} does not have the two comments between which the table belongs")
    readme.write_text(new)


def check_readme(readme: Path, names: list[str]) -> None:
    """That the table there is one that `write_readme` has written, which nobody has changed, about these tools."""
    found = BLOCK.findall(readme.read_text())
    if len(found) != 1 or digest(found[0][1]) != found[0][0]:
        sys.exit(f"{readme}: the table is not what benches/compare wrote")
    rows = [line.strip("|").split("|") for line in found[0][1].splitlines() if line.startswith("|")]
    known = {"", *(f"`{name}`" for name in names)}
    if len({len(row) for row in rows}) != 1 or {name.strip() for name in rows[0]} - known or len(rows) < FEWEST_ROWS:
        sys.exit(f"{readme}: the table has other columns or rows than benches/compare would write now")
