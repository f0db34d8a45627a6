"""Shell scripts: sound by bash and shellcheck; and the command that tpu.sh sends."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("launch/**/*.sh"), *ROOT.glob(".ci/*")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_is_sound(script):
    """bash reads it, shellcheck finds nothing, it can be started, its first lines say how, and errors end it."""
    for command in (["bash", "-n"], [Path(sys.executable).with_name("shellcheck")]):
        done = subprocess.run([*command, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith("# ") and "set -euo pipefail" in lines


def dry_run(*arguments, **variables):
    command = [str(ROOT / "launch/tpu.sh"), *arguments]
    environment = os.environ | {"DRY_RUN": "1"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return shlex.split(done.stdout)


def test_tpu_sends_the_training_to_all_workers():
    """gcloud gets slice, zone and one command; the shell there splits it into what was typed."""
    option = 'data.name="a b"'
    words = dry_run("v5e", "my configs/a.toml", "/mnt/runs/a", "--set", option, ZONE="us-central2-b", PROJECT="p")
    remote = words.pop(7)
    assert words == [
        *("gcloud", "compute", "tpus", "tpu-vm", "ssh", "v5e", "--worker=all"),
        *("--zone=us-central2-b", "--project=p"),
    ]
    start, _, rest = remote.removeprefix("--command=").partition(" && ")
    train = shlex.split(rest)
    assert start == "cd laegd" and train[:5] == ["exec", "laegd", "train", "--coordinator", "auto"]
    assert train[5:] == ["--config", "my configs/a.toml", "--workdir", "/mnt/runs/a", "--set", option]


def test_tpu_passes_the_exit_code_on(tmp_path):
    """Without DRY_RUN the command is run; its code is the script's."""
    (tmp_path / "gcloud").write_text("#!/bin/sh\nexit 75\n")
    (tmp_path / "gcloud").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DRY_RUN": ""}
    assert subprocess.run([ROOT / "launch/tpu.sh", "v5e", "a.toml", "/mnt/a"], env=environment).returncode == 75
