#!/usr/bin/env python3
"""Runs the code of Docs/python.md, block by block, and compares what it prints with what the page says.

    page.py             runs the page
    page.py --write     puts what was printed into the page, and draws its picture

```python blocks share one namespace. What they print stands in the ```text block behind them. One with a name behind
`python` is a file instead. ```console blocks are commands after `$`, each with its output. Blocks of another kind (```sh,
```py) are only shown.
"""
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "Docs/python.md"
PICTURE = ROOT / "Docs/changed-elements.svg"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is another one each time, and how far other numbers may be off: processors don't round alike.
TIME = re.compile(r"[\d.]+ (?=(ms|s|MiB/s|GiB/s|GB/s)\b)")
ID = re.compile(r"\b[0-9a-f]{8,64}\b")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
TOLERANCE = 0.25


class Block(NamedTuple):
    """A block of the page: its kind, the file that it is, its text and where that stands."""

    kind: str
    file: Optional[str]
    text: str
    start: int
    stop: int


def blocks(page):
    return [Block(match[1], match[2], match[3], *match.span(3)) for match in BLOCK.finditer(page)]


class Runner:
    """Runs blocks in a folder of their own."""

    def __init__(self, folder, cairn):
        self.folder = Path(folder)
        self.namespace = {"__name__": "__main__"}
        programs = self.folder / ".programs"
        programs.mkdir()
        (programs / "cairn").symlink_to(Path(cairn).resolve())
        (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (programs / "python").chmod(0o755)
        self.variables = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}

    def python(self, code, line):
        """Runs code, and returns what it printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.chdir(self.folder):
            exec(compile("\n" * line + code, str(PAGE), "exec"), self.namespace)
        return printed.getvalue()

    def console(self, text):
        """Runs the commands of a block, and returns it with what they print."""
        shown = []
        for command in re.findall(r"^\$ (.*(?:\\\n.*)*)", text, re.MULTILINE):
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.folder, env=self.variables, text=True, timeout=120,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            # Without the number of the process, as shells say it where somebody looks on.
            said = re.sub(r"^bash: line \d+: +\d+ (\w+) .*$", r"\1", done.stdout, flags=re.MULTILINE)
            shown.append(f"$ {command}\n{said}")
        return "".join(shown)


def run(page, runner):
    """Runs a page. Yields what stands there and what should: each as (start, stop, said)."""
    found = blocks(page)
    for block, following in zip(found, [*found[1:], None]):
        line = page[: block.start].count("\n")
        if block.file is not None:
            (runner.folder / block.file).write_text(block.text)
        elif block.kind == "console":
            yield block.start, block.stop, runner.console(block.text)
        elif block.kind == "python":
            said = runner.python(block.text, line)
            if following is not None and following.kind == "text" and not page[block.stop + 4 : following.start - 8].strip():
                yield following.start, following.stop, said
            elif said:
                raise AssertionError(f"{PAGE.name}:{line}: this prints what the page doesn't say:\n{said}")


def is_same(said, expected):
    """Whether two outputs are the same but for what is another one each time."""
    words = [NUMBER.split(ID.sub("ID", TIME.sub("TIME ", " ".join(text.split())))) for text in (said, expected)]
    numbers = [NUMBER.findall(ID.sub("ID", TIME.sub("TIME ", text))) for text in (said, expected)]
    return words[0] == words[1] and all(
        abs(float(one) - float(other)) <= TOLERANCE * max(float(one), float(other)) + 0.05 for one, other in zip(*numbers))


def differences(folder, cairn):
    """Runs the page, and yields what it says otherwise."""
    page = PAGE.read_text()
    for start, stop, said in run(page, Runner(folder, cairn)):
        if not is_same(said, page[start:stop]):
            yield f"{PAGE.name}:{page[:start].count(chr(10)) + 1} says\n{page[start:stop]}and now it is\n{said}"


def write(folder, cairn):
    """Puts what is printed into the page, and draws the picture."""
    page = PAGE.read_text()
    runner = Runner(folder, cairn)
    parts, last = [], 0
    has_drawn = False
    for start, stop, said in run(page, runner):
        parts += [page[last:start], said]
        last = stop
        if not has_drawn and "changed_shares" in runner.namespace:
            draw(runner.namespace)
            has_drawn = True
    PAGE.write_text("".join([*parts, page[last:]]))


def draw(namespace):
    """Which share of each group of tensors changed in each step, and what the saves took."""
    sys.path.insert(0, str(ROOT / "Benchmarks"))
    from pictures import Drawing, ticks

    stored = [iteration["storedBytes"] for iteration in namespace["store"].iterations()]
    steps = range(2, len(stored) + 1)
    shares = dict(zip(namespace["groups"], zip(*map(namespace["changed_shares"], steps))))
    left, width, row, top = 108, 632, 26, 84
    drawing = Drawing(
        820, 412, "What changed in each step",
        "The share of elements with another value than after the step before, in a small model of bf16 weights")
    column = width / len(stored)
    for number, name in enumerate(shares):
        y = top + number * row
        drawing.text(left - 10, y + 17, name, anchor="end")
        for step, share in zip(steps, shares[name]):
            drawing.parts.append(
                f'<rect class="cairn-bar" x="{left + (step - 1) * column:.1f}" y="{y}" width="{column - 1.5:.1f}" '
                f'height="{row - 3}" opacity="{max(share, 0.02):.2f}"><title>{name}, step {step}: {share:.0%}</title></rect>')
    for number, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        x = left + width + 12
        drawing.parts.append(
            f'<rect class="cairn-bar" x="{x}" y="{top + 120 - number * row}" width="14" height="{row - 3}" opacity="{max(share, 0.02)}"/>')
        drawing.text(x + 20, top + 137 - number * row, f"{share:.0%}")
    base, height = 372, 80
    greatest = max(stored) / 1e6
    drawing.text(left, base - height - 22, "MB that the save of each step took", "heading")
    for value in ticks(greatest):
        y = base - height * value / greatest
        drawing.line("grid", (left, y), (left + width, y))
        drawing.text(left - 10, y + 4, f"{value:g}", anchor="end")
    for number, size in enumerate(stored):
        part = height * size / 1e6 / greatest
        drawing.bar("peer-bar", left + number * column, base - part, column - 1.5, f"{part:.1f}")
    for step in (1, *range(10, len(stored) + 1, 10)):
        drawing.text(left + (step - 0.5) * column, base + 18, f"step {step}" if step == 1 else str(step), anchor="middle")
    drawing.write(PICTURE)


def main():
    cairn = os.environ.get("CAIRN") or sys.exit("Set CAIRN to the path of the program.")
    os.environ.setdefault("CAIRN_LIBRARY", str(Path(cairn).with_name("libCairnC.so")))
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(prefix="cairn-page.") as folder:
        if sys.argv[1:] == ["--write"]:
            write(folder, cairn)
        elif differ := list(differences(folder, cairn)):
            sys.exit("\n".join(differ))


if __name__ == "__main__":
    main()
