"""Puts the commit that a wheel or source archive is built from into it: neither has a history to ask."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMMIT = "laegd/commit.txt"  # read by laegd.training.meta.source_commit


class CommitHook(BuildHookInterface):
    """Adds `laegd/commit.txt`; an editable install has its history, and an unpacked archive its file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the file to what is built."""
        commit = None if version == "editable" else _commit(Path(self.root))
        if commit is not None:
            self._folder = tempfile.TemporaryDirectory()
            file = Path(self._folder.name) / "commit.txt"
            file.write_text(commit + "\n")
            build_data["force_include"][str(file)] = COMMIT


def _commit(root: Path) -> str | None:
    """Returns the commit checked out in the folder, with a `+` where files were changed; None without a history."""
    if not (root / ".git").exists():  # not that of a repository around the folder
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
