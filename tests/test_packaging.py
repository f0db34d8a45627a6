"""What is built of the package: its settings say what they must; the archives themselves are built by `slow` tests."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import laegd.training.meta as meta

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_nothing_in_the_package_needs_what_only_tests_install():
    """No file imports beartype; what jaxtyping writes into signatures works without it."""
    requirements = PROJECT["project"]["dependencies"]
    assert not [line for line in requirements if line.startswith("beartype")]
    assert not [
        p for p in (ROOT / "laegd").rglob("*.py") if re.search(r"^\s*(from|import) beartype", p.read_text(), re.M)
    ]


def test_links_of_the_readme_are_absolute_in_metadata():
    """The substitutions leave no link that the package index could not follow, and change no other text."""
    text = (ROOT / "README.md").read_text()
    before = len(re.findall(r"\]\((?!https?:)", text))
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert before > 5 and not re.findall(r"\]\((?!https://)", text)
    assert "](https://raw.githubusercontent.com/laegd/laegd/main/docs/melbourne.png)" in text
    assert "[docs/formats.md](https://github.com/laegd/laegd/blob/main/docs/formats.md)" in text


def test_results_of_a_wheel_name_the_commit_it_was_built_from(tmp_path, monkeypatch):
    """The file that the build puts into the package comes before any history around it."""
    package = tmp_path / "laegd" / "training"
    package.mkdir(parents=True)
    monkeypatch.setattr(meta, "__file__", str(package / "meta.py"))
    (tmp_path / "laegd" / "commit.txt").write_text("0123456789abcdef0123456789abcdef01234567+\n")
    assert meta.source_commit() == "0123456789abcdef0123456789abcdef01234567+"


def run(*command: str, cwd: Path) -> str:
    """Runs a command without this checkout on the path; shows what it printed where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A source archive of this tree's tracked files, committed without a tag, and the wheel built from the archive."""
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked archive has no history to build from")
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")[:-1]
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    run("git", "init", "-q", cwd=tree)
    run("git", "add", "-A", cwd=tree)
    run("git", *author, "commit", "-qm", "all", cwd=tree)
    run(sys.executable, "-m", "build", "-o", str(folder / "dist"), str(tree), cwd=folder)
    return tree, next((folder / "dist").glob("*.tar.gz")), next((folder / "dist").glob("*.whl"))


@pytest.mark.slow
def test_source_archive_holds_every_tracked_file(archives):
    """Tests, their data, documents, settings and scripts; beside them its metadata and the commit."""
    tree, source, _ = archives
    tracked = set(run("git", "ls-files", cwd=tree).splitlines())
    with tarfile.open(source) as file:
        held = {member.name.split("/", 1)[1] for member in file.getmembers() if member.isfile()}
    assert held == tracked | {"PKG-INFO", "laegd/commit.txt"}


@pytest.mark.slow
def test_wheel_knows_commit_version_and_links(archives):
    """Built from the source archive, which has no history, it does too; without a tag it is a development version."""
    tree, _, wheel = archives
    commit = run("git", "rev-parse", "HEAD", cwd=tree).strip()
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (file.read(name).decode() for name in file.namelist() if name.endswith("METADATA"))
        assert file.read("laegd/commit.txt").decode().strip() == commit
        assert "laegd/py.typed" in file.namelist() and "laegd/shipped/default.npz" in file.namelist()
    assert re.search(rf"^Version: 0\.1.*\.dev\d+\+g{commit[:7]}", metadata, re.M)
    assert not re.findall(r"\]\((?!https?:)", metadata)
    assert "Author: The laegd developers" in metadata
