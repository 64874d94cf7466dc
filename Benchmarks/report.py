"""The table of results: printed row by row as it is measured, and kept, so that pictures can be drawn again without measuring."""

import datetime
import json
import platform
import statistics
from dataclasses import asdict, dataclass

import training

RESULTS = training.CACHE.parent / "benchmark.json"
WIDTHS = (44, 10, 8, 22, 10, 8, 6, 8)


@dataclass
class Figure:
    """A measured number with its unit, and the CPU-seconds a GB (10^9 bytes) that it took where that was asked."""

    number: float
    unit: str
    cpu: float = None

    def __str__(self):
        digits = {"%": 2 if self.number < 10 else 1, "s": 2, "ms": 1, "GB/s": 2, "MiB": 0, "GiB": 2, "s/GB": 2}.get(self.unit, 2)
        return f"{self.number:.{digits}f} {self.unit}".strip()


def seconds(runs, logical):
    """The median time of some runs over so many bytes."""
    return Figure(
        statistics.median(run.seconds for run in runs), "s", statistics.median(run.cpu for run in runs) / logical * 1e9)


def rate(runs, logical):
    """The same as a rate."""
    figure = seconds(runs, logical)
    return Figure(logical / figure.number / 1e9, "GB/s", figure.cpu)


def share(stored, logical):
    """The median of what some saves took, in percent of what they hold."""
    return Figure(100 * statistics.median(part / whole for part, whole in zip(stored, logical)), "%")


class Report:
    """The rows of one run of the benchmark, added to those of earlier runs in the results file."""

    def __init__(self, versions, kept=True):
        self.failed, self.versions, self.kept, self.title = 0, versions, kept, None
        try:
            self.results = json.loads(RESULTS.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            self.results = {}
        print(f"{machine()}; {datetime.date.today()}\n" + "\n".join(f"  {version}" for version in versions), flush=True)
        self.line("", "cairn", "CPU s/GB", "beside", "", "CPU s/GB", "ratio", "bound")

    def line(self, *cells):
        texts = [cell.ljust(width) if number in (0, 3) else cell.rjust(width)
                 for number, (cell, width) in enumerate(zip(cells, WIDTHS))]
        print(" ".join(texts).rstrip(), flush=True)

    def begin(self, name):
        """All rows from here on belong to this part, and take the place of what an earlier run found for it."""
        self.part = self.results.setdefault("parts", {})[name] = {
            "date": str(datetime.date.today()), "machine": machine(), "versions": self.versions, "rows": [], "data": {}}

    def keep(self, **data):
        """Numbers behind the rows, which the pictures show."""
        self.part["data"].update(data)

    def row(self, title, figure, peer=None, beside=None, at_most=None, at_least=None):
        """Prints a row. Its bound is on the ratio of the two figures where it has two, else on the one."""
        ratio = beside and figure.number / beside.number
        number = figure.number if ratio is None else ratio
        holds = (at_most is None or number <= at_most) and (at_least is None or number >= at_least)
        bound = f"≤ {at_most:.3g}" if at_most is not None else f"≥ {at_least:.3g}" if at_least is not None else "-"
        self.line(
            title if title != self.title else "", str(figure), optional(figure.cpu), peer or "", str(beside or ""),
            optional(beside and beside.cpu), optional(ratio), bound)
        self.title = title
        if not holds:
            self.failed += 1
            print(f"    ^ does not hold: {number:.3f}", flush=True)
        self.part["rows"].append({
            "title": title, "cairn": asdict(figure), "peer": peer, "beside": beside and asdict(beside), "ratio": ratio,
            "at_most": at_most, "at_least": at_least, "holds": holds})

    def end(self):
        """Writes the part to the results file, where results are kept."""
        if not self.kept:
            return
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(self.results, indent=1))


def optional(number):
    return "-" if number is None else f"{number:.2f}"


def machine():
    with open("/proc/cpuinfo") as file:
        lines = file.read().splitlines()
    models = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    return f"{len(models)} cores ({models[0]}), {memory:.0f} GiB of memory, Linux {platform.release()}"
