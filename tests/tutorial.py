"""Runs docs/tutorial.md: writes its files, runs its commands, and puts what they print into the page.

python tests/tutorial.py
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(?P<kind>console|(?:csv|toml) (?P<file>\S+))\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: str, folder: Path, run: Callable[[str, Path], str]) -> str:
    """Returns the page with the output of its commands, run in the folder one after the other."""

    def replace(block: re.Match[str]) -> str:
        if block["file"]:
            (folder / block["file"]).write_text(block["text"])
            return block[0]
        commands = [line for line in block["text"].splitlines() if line.startswith("$ ")]
        outputs = [run(command.removeprefix("$ "), folder) for command in commands]
        lines = "\n\n".join(f"{c}\n{o}".rstrip() for c, o in zip(commands, outputs, strict=True))
        return f"```console\n{lines}\n```"

    return BLOCK.sub(replace, page)


def run_command(command: str, folder: Path) -> str:
    """Runs a command as a user does; returns what it prints, raises where it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}: {done.stderr}"
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def outputs(page: str) -> Iterator[tuple[str, str]]:
    """Yields the commands of a page and what stands below each."""
    for block in BLOCK.finditer(page):
        if not block["file"]:
            for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield command, output.strip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(run_page(PAGE.read_text(), Path(folder), run_command))
