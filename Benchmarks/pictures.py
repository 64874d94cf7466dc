#!/usr/bin/env python3
"""Draws the pictures of Docs/ from the results file that the benchmark wrote.

Cairn has the only colour; what it stands beside is grey and named where it ends, so nothing depends on telling colours apart.
"""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import report

DOCS = Path(__file__).resolve().parents[1] / "Docs"

# Light, and what takes its place on a dark page.
STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; font-size: 12px; fill: #57606a }
.page { fill: #ffffff }
.title { font-size: 17px; font-weight: 600; fill: #1f2328 }
.heading { font-size: 13px; font-weight: 600; fill: #1f2328 }
.grid { stroke: #d8dee4; stroke-width: 1 }
.peer { stroke: #8c959f; stroke-width: 1.5; fill: none }
.whole { stroke: #afb8c1; stroke-width: 1.5; stroke-dasharray: 2 4; fill: none }
.cairn { stroke: #0969da; stroke-width: 3; fill: none }
.leader { stroke: #afb8c1; stroke-width: 0.75; fill: none }
.peer-bar { fill: #afb8c1 }
.cairn-bar { fill: #0969da }
.cairn-name { font-weight: 600; fill: #0969da }
"""
DARK_STYLE = """
text { fill: #9198a1 }
.page { fill: #0d1117 }
.title, .heading { fill: #f0f6fc }
.grid { stroke: #30363d }
.peer { stroke: #7d8590 }
.whole, .leader { stroke: #565d66 }
.cairn { stroke: #58a6ff }
.peer-bar { fill: #565d66 }
.cairn-bar { fill: #58a6ff }
.cairn-name { fill: #58a6ff }
"""

PANELS = {
    "dense": "fp32, AdamW", "mixed-late": "bf16 with fp32 master, late",
    "lora": "LoRA, saved with its base", "sparse": "Sparse embeddings",
}
LABEL_HEIGHT = 15


class Drawing:
    """The few shapes that the pictures need, as the text of an SVG file."""

    def __init__(self, width, height, title, description):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc>",
            f"<style>{STYLE}@media (prefers-color-scheme: dark) {{{DARK_STYLE}}}</style>",
            f'<rect class="page" width="{width}" height="{height}" rx="6"/>',
        ]
        self.text(24, 34, title, "title")
        self.text(24, 54, description)

    def text(self, x, y, words, kind="", anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, kind, *points):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{path}" stroke-linejoin="round" stroke-linecap="round"/>')

    def bar(self, kind, x, y, width, height):
        self.parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height}" rx="2"/>')

    def write(self, path):
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def ticks(greatest):
    """Round numbers from 0 to the greatest value, three to six of them."""
    step = 1.0
    while step > greatest / 2:
        step /= 10
    for factor in (1, 2, 5, 10, 20):
        if greatest / (step * factor) < 6:
            step *= factor
            break
    return [step * number for number in range(int(greatest / step + 1e-9) + 1)]


def spread(labels):
    """Moves labels `(y, ...)` apart until none covers another, the middle of each crowd staying where it is."""
    placed = []
    for label in sorted(labels):
        group = [[label[0]], [label]]
        while placed and placed[-1][0] + LABEL_HEIGHT * len(placed[-1][1]) / 2 > (
                sum(group[0]) / len(group[0]) - LABEL_HEIGHT * len(group[1]) / 2):
            _, before = placed.pop()
            group = [[each[0] for each in before] + group[0], before + group[1]]
        placed.append((sum(group[0]) / len(group[0]), group[1]))
    for middle, group in placed:
        for number, label in enumerate(group):
            yield middle + LABEL_HEIGHT * (number - (len(group) - 1) / 2), label


def running_sum(values):
    total, sums = 0, []
    for value in values:
        total += value / 1e9
        sums.append(total)
    return sums


def panel(drawing, x, y, heading, data, width=250, height=190):
    """The bytes stored after each save of one series, a line for each contender."""
    lines = {name: running_sum(stored) for name, stored in data["stored"].items() if name != "reference"}
    lines["full copies"] = running_sum(data["logical"])
    greatest, count = max(line[-1] for line in lines.values()), len(data["logical"])

    def place(number, value):
        return x + width * number / (count - 1), y + height * (1 - value / greatest)

    drawing.text(x, y - 16, heading, "heading")
    for value in ticks(greatest):
        level = place(0, value)[1]
        drawing.line("grid", (x, level), (x + width, level))
        drawing.text(x - 8, level + 4, f"{value:g}", anchor="end")
    for number in sorted({0, count // 2, count - 1}):
        words = "save 1" if number == 0 else str(number + 1)
        drawing.text(place(number, 0)[0], y + height + 18, words, anchor="middle")
    for name, line in sorted(lines.items(), key=lambda item: item[0] == "cairn"):
        kind = {"cairn": "cairn", "full copies": "whole"}.get(name, "peer")
        drawing.line(kind, *(place(number, value) for number, value in enumerate(line)))
    for level, (end, name, value) in spread((place(0, line[-1])[1], name, line[-1]) for name, line in lines.items()):
        drawing.line("leader", (x + width + 3, end), (x + width + 12, level))
        kind = "cairn-name" if name == "cairn" else ""
        drawing.text(x + width + 16, level + 4, "Cairn" if name == "cairn" else name, kind)
        drawing.text(x + width + 136, level + 4, f"{value:.2f} GB", kind, "end")


def draw_stored_bytes(parts):
    panels = {name: parts[f"stored-{name}"]["data"] for name in PANELS if f"stored-{name}" in parts}
    rows = (len(panels) + 1) // 2
    drawing = Drawing(
        900, 80 + 270 * rows, "Bytes stored after each save",
        "GB over the consecutive saves of real training series, each series on a scale of its own")
    for number, (name, data) in enumerate(panels.items()):
        panel(drawing, 52 + 440 * (number % 2), 106 + 270 * (number // 2), PANELS[name], data)
    drawing.write(DOCS / "stored-bytes.svg")


def bars(drawing, y, heading, times, longest):
    """A bar a contender, the quickest first."""
    drawing.text(24, y, heading, "heading")
    for number, (name, seconds) in enumerate(sorted(times.items(), key=lambda item: item[1])):
        top = y + 14 + 26 * number
        ours = name == "cairn"
        length = 500 * seconds / longest
        drawing.text(156, top + 14, "Cairn" if ours else name, "cairn-name" if ours else "", "end")
        drawing.bar("cairn-bar" if ours else "peer-bar", 166, top, length, 19)
        words = f"{seconds:.2f} s" + ("" if ours else f" · {seconds / times['cairn']:.1f}×")
        drawing.text(166 + length + 8, top + 14, words, "cairn-name" if ours else "")


def draw_save_time(parts):
    groups = [(heading, parts[name]["data"]["seconds"]) for name, heading in (
        ("dense", "On disk, with sync"), ("dense-tmpfs", "On tmpfs")) if name in parts]
    height = sum(52 + 26 * len(times) for _, times in groups)
    size = next(parts[name]["data"]["logical"] for name in ("dense",) if name in parts)
    drawing = Drawing(
        820, 76 + height, "Time of a save in which every weight has changed",
        f"A dense fp32 checkpoint of {size / 1e6:.0f} MB, after the one before it; medians, and how many times Cairn's each is")
    longest, y = max(max(times.values()) for _, times in groups), 94
    for heading, times in groups:
        bars(drawing, y, heading, times, longest)
        y += 52 + 26 * len(times)
    drawing.write(DOCS / "save-time.svg")


def draw():
    """Draws what there are results for."""
    parts = json.loads(report.RESULTS.read_text())["parts"]
    if any(f"stored-{name}" in parts for name in PANELS):
        draw_stored_bytes(parts)
    if "dense" in parts:
        draw_save_time(parts)


if __name__ == "__main__":
    draw()
