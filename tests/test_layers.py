"""The house's one rule: an import only ever points to an earlier layer."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import laegd
from laegd.scenario.generator import Scale, ScenarioConfig, draw

PACKAGE = Path(laegd.__file__).parent
LAYERS = [
    {"scenario"},
    {"problem"},
    {"solvers"},
    {"graphs"},
    {"models"},
    {"diffusion", "decoding"},
    {"config"},
    {"training"},
    {"evaluation"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SIBLINGS = {("models", "diffusion"), ("diffusion", "models"), ("diffusion", "decoding"), ("decoding", "diffusion")}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem == "config")


def imported_modules(path: Path) -> set[str]:
    """Every module of laegd that the file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("laegd.")}


def room(module: str) -> str:
    """laegd.graphs.encode -> graphs."""
    return module.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_earlier_layers(path):
    """No file imports from a later layer, nor from a sibling that must not know it."""
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imported_modules(path):
        there = room(module)
        assert LEVEL[there] <= LEVEL[here], f"{path.name} imports {module}"
        assert (here, there) not in SIBLINGS, f"{path.name} imports {module}"


def test_modules_do_not_import_in_circles():
    """Following imports never leads back to where one started."""
    names = {
        f"laegd.{'.'.join(p.relative_to(PACKAGE).with_suffix('').parts)}": p for p in FILES if p.stem != "__init__"
    }
    graph = {name: imported_modules(path) & set(names) for name, path in names.items()}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        for other in graph[name]:
            visit(other, (*trail, name))

    for name in graph:
        visit(name, ())


def test_importing_laegd_needs_nothing_that_windows_lacks():
    """No file imports a module of Unix alone, but inside a function that asks first."""
    unix = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not unix & {*names}, path


@pytest.mark.parametrize("word", ["utils", "common", "misc", "helpers"])
def test_no_room_without_a_subject(word):
    """Every module is named for what it holds."""
    assert not [path for path in FILES if word in path.parts or path.stem == word]


def test_importing_the_package_does_not_wait_for_jax():
    """`import laegd` and the command line's help load no JAX, nor does that of `train`, which shows all settings."""
    code = (
        "import sys, laegd.cli; laegd.cli.main(['train', '--help']); laegd.cli.main(['--help']);"
        "print([m for m in ('jax', 'flax', 'orbax', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_importing_sites_does_not_wait_for_jax(tmp_path):
    """Nor do its settings load the network's."""
    (tmp_path / "places.csv").write_text("lat,lon\n1,2\n")
    (tmp_path / "settings.toml").write_text("num_haps = 2\n")
    code = "import sys; from laegd.cli import main; main(sys.argv[1:]); print('jax' in sys.modules)"
    options = ("--servers", "places.csv", "--users", "places.csv", "--config", "settings.toml", "--out", "out.json")
    command = [sys.executable, "-c", code, "import-sites", *options]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("method", "needed"),
    [("exact", []), ("certified", []), ("re", []), ("ao", ["scipy"]), ("mcmf", ["scipy"])],
)
def test_planning_without_a_network_does_not_wait_for_jax(method, needed, tmp_path):
    """`solve` loads what the method needs: no method without a network loads JAX, nor does one that asks none."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 1, np.random.default_rng(0))
    (tmp_path / "scenario.json").write_bytes(scenarios.scenario(0).to_json())
    code = (
        "import sys; from laegd.cli import main; main(sys.argv[1:]);"
        "print([m for m in ('jax', 'flax', 'networkx', 'scipy', 'orbax') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "solve", "scenario.json", "--method", method, "--out", "plan.json"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.splitlines()[-1] == str(needed)
