"""What the benchmarks share: timed processes, files of noise, and the table of results."""

import json
import os
import shutil
import statistics
import struct
import subprocess
import time

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CAIRN = os.environ["CAIRN"]


class Run:
    """One finished process: its standard output, seconds, processor seconds and peak resident bytes."""

    def __init__(self, *command, check=True, folder=None, settings=None):
        """Runs a command, in `folder` where one is given, with `settings` added to the environment."""
        environment = {**os.environ, **(settings or {})}
        start = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, cwd=folder, env=environment)
        self.output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds = time.monotonic() - start
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss * KIB
        process.returncode = os.waitstatus_to_exitcode(status)
        if check and process.returncode != 0:
            raise SystemExit(f"{command} ended with {process.returncode}")

    @property
    def json(self):
        return json.loads(self.output)


def cairn(command, store, *arguments):
    return Run(CAIRN, command, "--store", store, "--json", *arguments)


def copy(source, target):
    """`cp` and `sync FILE`, as one run."""
    return Run("sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", source, target)


def copy_folder(source, target):
    """`cp` of a folder and `sync` of its files, as one run."""
    return Run("sh", "-c", 'cp -r "$1" "$2" && find "$2" -type f -exec sync {} +', "sh", source, target)


def files_in(path):
    """A file, or the files of a folder."""
    if os.path.isfile(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def disk_use(folder):
    return 512 * sum(os.lstat(path).st_blocks for path in files_in(folder))


def warm(*paths):
    """Reads files, and the files of folders, into the page cache."""
    for path in paths:
        for name in files_in(path):
            with open(name, "rb") as file:
                while file.read(4 * MIB):
                    pass


def noise(path, size, tensors=0):
    """A file of random bytes, or a safetensors file of so many F32 tensors of them. It is in the page cache and on the disk."""
    with open(path, "wb") as file:
        if tensors:
            each = size // tensors // 4 * 4
            header = {
                f"model.layers.{n}.weight": {
                    "dtype": "F32", "shape": [each // 4], "data_offsets": [n * each, (n + 1) * each]}
                for n in range(tensors)
            }
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            file.write(struct.pack("<Q", len(text)) + text)
            size = each * tensors
        while size > 0:
            file.write(os.urandom(min(size, 4 * MIB)))
            size -= min(size, 4 * MIB)
        os.fsync(file.fileno())


def drop_from_cache(*paths):
    """Takes files, and the files of folders, out of the page cache."""
    for path in paths:
        for name in files_in(path):
            descriptor = os.open(name, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def remove(*paths):
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)
    os.sync()


def alternate(count, *bodies):
    """Runs the bodies in turn, `count` times. Returns the median of what each returned."""
    results = [[body() for body in bodies] for _ in range(count)]
    return [statistics.median(column) for column in zip(*results)]


class Table:
    """The rows, printed one by one as they are measured."""

    widths = (34, 12, 15, 7, 7)

    def __init__(self):
        self.failed = 0
        self.line("", "cairn", "peer", "ratio", "at most")

    def line(self, title, *cells):
        cells = [cell.rjust(width) for cell, width in zip(cells, self.widths[1:])]
        print(title.ljust(self.widths[0]), *cells, flush=True)

    def row(self, title, value, limit, peer=None, ratio=None):
        """A bound on the ratio where there is one, else on the value, which is `(number, text)`. No limit: only to be seen."""
        number = value[0] if ratio is None else ratio
        self.line(
            title, value[1], peer or "-", "-" if ratio is None else f"{ratio:.2f}", "-" if limit is None else f"{limit:g}")
        if limit is not None and number > limit:
            self.failed += 1
            print(f"    ^ does not hold: {number:.3f} is over {limit:g}", flush=True)


def seconds(value):
    return value, f"{value:.2f} s"


def mebibytes(value):
    return value / MIB, f"{value / MIB:.0f} MiB"
