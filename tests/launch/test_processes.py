"""launch/processes.sh with stand-ins for laegd: flags, signals, codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch/processes.sh"

# Writes its flags, says that it is there, and then waits for a signal or does what its rank is told to.
STAND_IN = """
import os, signal, sys, time
from pathlib import Path
folder, plan, flags = Path(sys.argv[1]), sys.argv[2].split(","), dict(zip(sys.argv[3::2], sys.argv[4::2]))
rank = int(flags["--process-id"])

def leave(number, frame):
    (folder / f"signal-{rank}").write_text(str(number))
    os._exit(75 if number == signal.SIGTERM else 130)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
(folder / "new").mkdir(exist_ok=True)
(folder / "new" / str(rank)).write_text(" ".join(sys.argv[3:]))
(folder / "new" / str(rank)).rename(folder / f"flags-{rank}")
if plan[rank] == "wait":
    time.sleep(300)
time.sleep(0.3)
os._exit(int(plan[rank]))
"""


def start(folder, number, plan, group=False, **variables):
    command = [SCRIPT, number, sys.executable, "-c", STAND_IN, folder, plan]
    environment = os.environ | variables
    command = [str(word) for word in command]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=group)


def wait_for(*paths):
    end = time.monotonic() + 300
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, paths
        time.sleep(0.05)


def test_every_process_gets_its_rank_and_one_address(tmp_path):
    """Three copies, ranks 0 to 2 of 3, the same coordinator; all end well, so does the script."""
    assert start(tmp_path, 3, "0,0,0").wait(timeout=300) == 0
    flags = [(tmp_path / f"flags-{rank}").read_text().split() for rank in range(3)]
    assert [line[4:] for line in flags] == [["--process-id", str(rank)] for rank in range(3)]
    assert all(line[2:4] == ["--num-processes", "3"] for line in flags)
    assert flags[0][0] == "--coordinator" and flags[0][1].startswith("127.0.0.1:")
    assert len({line[1] for line in flags}) == 1


def test_a_share_of_the_ranks_of_several_machines(tmp_path):
    """The second of two machines starts ranks 2 and 3 of 4 and names the first as coordinator."""
    variables = {"COORDINATOR": "node1:12345", "TOTAL": "4", "FIRST": "2"}
    assert start(tmp_path, 2, "0,0,0,0", **variables).wait(timeout=300) == 0
    names = {path.name for path in tmp_path.glob("flags-*")}
    assert names == {"flags-2", "flags-3"}
    assert (tmp_path / "flags-3").read_text() == "--coordinator node1:12345 --num-processes 4 --process-id 3"


@pytest.mark.parametrize("group", [False, True], ids=["to the script", "to its group"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_reach_all_processes_once_and_their_code_comes_back(tmp_path, number, code, group):
    """All have left when the script returns; also where the signal, like Ctrl-C, goes to whatever the script runs."""
    script = start(tmp_path, 2, "wait,wait", group)
    wait_for(*(tmp_path / f"flags-{rank}" for rank in range(2)))
    if group:
        os.killpg(script.pid, number)
    else:
        script.send_signal(number)
    assert script.wait(timeout=300) == code
    assert [(tmp_path / f"signal-{rank}").read_text() for rank in range(2)] == [str(int(number))] * 2


def test_one_failure_ends_the_others_and_is_the_code(tmp_path):
    """Rank 1 fails with 3; rank 0 would wait for a minute, is told to leave and does, with 75; the answer is 3."""
    script = start(tmp_path, 2, "wait,3", GRACE_S="1")
    assert script.wait(timeout=300) == 3
    assert (tmp_path / "signal-0").read_text() == str(int(signal.SIGTERM))


def test_bad_calls_say_what_is_missing(tmp_path):
    """No number, no command."""
    for arguments, word in (([], "number"), (["2"], "command")):
        done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
        assert done.returncode != 0 and word in done.stderr
