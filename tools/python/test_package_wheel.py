#!/usr/bin/env python3
"""The wheel that CAIRN_WHEEL names: what is in it, and that it works in clean virtual environments where there is no toolchain.

Python 3.9, 3.11 and 3.13, as far as they are found in PATH or among pyenv's, and the one that runs this.
"""
import email
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

WHEEL = os.environ.get("CAIRN_WHEEL")
VERSIONS = ["3.9", "3.11", "3.13"]
NO_WHEEL = "CAIRN_WHEEL names no wheel to test: tools/wheel builds one, and tools/test --long tests it."
BUILD = Path(__file__).resolve().parent / "build.sh"
# What a system has that fulfils manylinux; everything else has to be inside.
OF_THE_SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)|ld-linux[-_a-z0-9]*)\.so\.\d+$")
# Libraries that are linked with, and the licence of each.
BUNDLED = {"libcrypto": "OpenSSL.txt", "liblmdb": "LMDB.txt", "libzstd": "zstd.txt"}

SAVE = """
import sys
import numpy
import cairn
store = cairn.open("checkpoints.cairn", create=True)
generator = numpy.random.default_rng(1)
weight = generator.standard_normal((512, 256), dtype=numpy.float32)
saving = store.save(
    7, model={"layer.weight": weight, "layer.bias": numpy.zeros(0)}, optimizer={"betas": (0.9, 0.999), "state": [{"step": 7}]},
    extra={"random": generator.bit_generator.state}, metrics={"loss": 2.5}, wait=False)
saving.wait()
assert "torch" not in sys.modules
with open("/proc/self/maps") as maps:
    print(*{line.split()[-1] for line in maps if ".so" in line}, sep="\\n")
"""

LOAD = """
import importlib.metadata
import numpy
import cairn
assert cairn.__version__ == importlib.metadata.version("cairn"), cairn.__version__
generator = numpy.random.default_rng(1)
weight = generator.standard_normal((512, 256), dtype=numpy.float32)
store = cairn.open("checkpoints.cairn")
state = store.load("latest")
numpy.testing.assert_array_equal(state["model"]["layer.weight"], weight)
assert state["model"]["layer.bias"].shape == (0,)
assert state["optimizer"] == {"betas": (0.9, 0.999), "state": [{"step": 7}]}, state["optimizer"]
assert state["extra"]["random"] == generator.bit_generator.state
numpy.testing.assert_array_equal(store["best:loss"].tensor("layer.weight")[100:200], weight[100:200])
try:
    store.load("8")
except cairn.CairnError as error:
    print(error)
"""


def interpreters():
    """Paths of interpreters, by their versions."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": getattr(sys, "_base_executable", sys.executable)}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}"), *(Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python3")]
        for candidate in filter(None, candidates):
            # pyenv puts programs in PATH that only say that this version isn't chosen.
            if version not in found and subprocess.run([candidate, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0:
                found[version] = str(candidate)
    return found


def needed(library):
    """What a library is linked with, and the folders where it looks for that."""
    said = subprocess.run(["readelf", "-dW", library], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.findall(r"\((NEEDED|RPATH|RUNPATH)\).*\[(.*)\]", said)
    return [name for key, name in found if key == "NEEDED"], [name for key, name in found if key != "NEEDED"]


def linked(library):
    """The paths of all that is loaded with a library where LD_LIBRARY_PATH names nothing."""
    said = subprocess.run(["ldd", library], check=True, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, text=True).stdout
    return re.findall(r"(?:=> |^\s)(/\S+|not found)", said, re.MULTILINE)


@unittest.skipUnless(WHEEL, NO_WHEEL)
class Contents(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        with zipfile.ZipFile(WHEEL) as wheel:
            wheel.extractall(self.folder)
        [self.information] = self.folder.glob("cairn-*.dist-info")
        self.libraries = [path for path in self.folder.rglob("*") if ".so" in path.name]
        self.program = self.folder / "cairn/bin/cairn"

    def test_it_is_for_every_python_3_and_for_glibc_2_34(self):
        self.assertRegex(Path(WHEEL).name, rf"^cairn-[0-9.]+-py3-none-manylinux_2_34_{os.uname().machine}\.whl$")
        metadata = email.message_from_string((self.information / "METADATA").read_text())
        self.assertEqual(metadata["Requires-Python"], ">=3.9")
        required = [name for name in metadata.get_all("Requires-Dist") if "extra ==" not in name]
        self.assertEqual([re.match(r"\w+", name).group() for name in required], ["numpy"])

    def test_libraries_and_the_command_need_nothing_but_each_other_and_what_every_system_has(self):
        inside = {path.name for path in self.libraries}
        self.assertIn("libCairnC.so", inside)
        for path in [*self.libraries, self.program]:
            names, folders = needed(path)
            outside = [name for name in names if name not in inside and not OF_THE_SYSTEM.match(name)]
            self.assertEqual(outside, [], path.name)
            self.assertEqual([folder for folder in folders if not folder.startswith("$ORIGIN")], [], path.name)

    def test_it_shows_the_functions_of_its_header_alone_and_no_names_for_debugging(self):
        [library] = self.folder.glob("cairn/libCairnC.so")
        said = subprocess.run(["readelf", "--dyn-syms", "-W", library], check=True, stdout=subprocess.PIPE, text=True).stdout
        shown = [line.split()[7] for line in said.splitlines() if re.search(r"(GLOBAL|WEAK)\s+(DEFAULT|PROTECTED)\s+\d", line)]
        self.assertIn("cairn_version", shown)
        self.assertEqual([name for name in shown if not name.startswith("cairn_")], [])
        sections = subprocess.run(["readelf", "-SW", library], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.assertNotRegex(sections, r"\.symtab|\.debug_info")

    def test_the_licence_of_each_library_is_in_it(self):
        licences = {path.name: path.read_text() for path in (self.information / "licenses").rglob("*") if path.is_file()}
        bundled = {re.match(r"lib[a-z]+", path.name).group() for path in self.folder.glob("cairn.libs/*")}
        self.assertEqual(bundled, set(BUNDLED))
        self.assertEqual(set(licences), {"LICENSE", "Swift.txt", *BUNDLED.values()})
        for name, words in {"LICENSE": "Apache License", "Swift.txt": "Runtime Library Exception", "OpenSSL.txt": "OpenSSL",
                            "LMDB.txt": "OpenLDAP Public License", "zstd.txt": "Meta Platforms"}.items():
            self.assertIn(words, licences[name], name)

    def test_it_has_the_package_with_its_types_and_nothing_else(self):
        files = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        self.assertLessEqual({"cairn/__init__.py", "cairn/py.typed", "cairn/schedule.py", "cairn/libCairnC.so", "cairn/bin/cairn"}, files)
        others = [name for name in files if not re.match(r"cairn(\.libs|-[0-9.]+\.dist-info)?/", name)]
        self.assertEqual(others, [])
        sources = Path(__file__).resolve().parent / "cairn"
        expected = {f"cairn/{path.name}" for path in sources.glob("*.py")}
        self.assertEqual({name for name in files if name.endswith(".py")}, expected)


@unittest.skipUnless(WHEEL, NO_WHEEL)
class Installed(unittest.TestCase):
    """Clean virtual environments that know of no toolchain."""

    def run_in(self, folder, program, *arguments):
        """Runs a program with nothing in PATH but its own folder, and none of the variables of this process."""
        environment = {"PATH": str(program.parent), "HOME": str(folder), "LANG": "C.UTF-8"}
        command = [str(program), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def is_inside_or_of_the_system(self, path, folder):
        return path.startswith(f"{folder}/") or OF_THE_SYSTEM.match(Path(path).name) is not None

    def test_numpy_state_is_saved_in_one_process_and_is_the_same_in_another(self):
        for version, interpreter in interpreters().items():
            with self.subTest(version), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
                python = folder / "venv/bin/python"
                subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL], check=True)
                mapped = self.run_in(folder, python, "-c", SAVE).split()
                [library] = [path for path in mapped if path.endswith("/libCairnC.so")]
                # Python has libraries of its own, and where it was built they may be of the same name.
                self.assertEqual([path for path in mapped if "swift" in path.lower()], [])
                self.assertEqual([path for path in linked(library) if not self.is_inside_or_of_the_system(path, folder)], [])
                said = self.run_in(folder, python, "-c", LOAD)
                self.assertIn("8", said)
                program = folder / "venv/bin/cairn"
                self.assertRegex(self.run_in(folder, program, "list", "--store", "checkpoints.cairn"), r"main +7 .* loss 2\.5")
                print(f"Python {version}: {interpreter}")


class Building(unittest.TestCase):
    def test_debian_packages_that_are_missing_are_named_and_nothing_is_installed(self):
        with tempfile.TemporaryDirectory() as folder:
            # None of what the build needs is installed, says this one.
            tool = Path(folder) / "dpkg-query"
            tool.write_text("#!/bin/sh\nexit 1\n")
            tool.chmod(0o755)
            done = subprocess.run(
                [BUILD], env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^Packages are missing. Install them with:\n.*apt-get install -y .*liblmdb-dev")

    def test_the_command_of_a_package_in_place_says_how_to_build_it(self):
        main = "from cairn._command import main; main()"
        done = subprocess.run([sys.executable, "-c", main], cwd=BUILD.parent, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^cairn: there is no .*/cairn/bin/cairn: .* `swift build -c release --product cairn`\n$")


if __name__ == "__main__":
    if not WHEEL:
        print(NO_WHEEL)
    unittest.main()
