"""What a command writes never replaces what it reads, nor another thing that it writes."""

import os
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest

from laegd.scenario.files import clear_unfinished, read_file, write_atomically
from laegd.scenario.outputs import check_outputs, write_output


@pytest.fixture
def sites(tmp_path):
    """A file that is read."""
    path = tmp_path / "Sites.csv"
    path.write_text("lat,lon\n1,2\n")
    return path


def dotted(path):
    """The same place by way of its folder's parent."""
    return path.parent / ".." / path.parent.name / path.name


def linked(path):
    """A symbolic link."""
    link = path.with_name("link")
    link.symlink_to(path.name)
    return link


def in_linked_folder(path):
    """Through a symbolic link to the folder."""
    link = path.with_name("folder")
    link.symlink_to(path.parent)
    return link / path.name


def hard_linked(path):
    """Another name of the same file."""
    link = path.with_name("hard")
    os.link(path, link)
    return link


@pytest.mark.parametrize("other_path", [lambda path: path, dotted, linked, in_linked_folder, hard_linked])
def test_an_output_is_no_input_by_any_path(sites, other_path):
    """Also where replacing was asked for; the file is as it was."""
    out = other_path(sites)
    for read, written in ((sites, out), (out, sites)):
        with pytest.raises(ValueError, match=r"^--out: Expected a place of its own, got .*, which is an input\. Name"):
            check_outputs({"--out": written}, [None, read], overwrite=True)
    assert sites.read_text() == "lat,lon\n1,2\n"


def test_relative_paths_are_those_of_the_working_folder(sites, monkeypatch):
    """`sites.csv` and its full path are one place."""
    monkeypatch.chdir(sites.parent)
    with pytest.raises(ValueError, match="which is an input"):
        check_outputs({"--out": sites}, [type(sites)(sites.name)], overwrite=True)


@pytest.mark.parametrize(("folds", "code"), [(True, "one"), (False, "two")])
def test_case_tells_files_apart_where_the_system_says_so(tmp_path, monkeypatch, folds, code):
    """On macOS and Windows a.json and A.json are one file, which is not there yet."""
    monkeypatch.setattr("laegd.scenario.outputs._FOLDS_CASE", folds)
    outputs = {"--out": tmp_path / "a.json", "--picture": tmp_path / "A.json"}
    if code == "two":
        check_outputs(outputs)
    else:
        with pytest.raises(ValueError, match=r"^--picture: Expected a place of its own, .*which --out writes too"):
            check_outputs(outputs)


def test_two_outputs_are_two_places(tmp_path):
    """Of one option too."""
    with pytest.raises(ValueError, match=r"^--picture: Expected a place of its own, got .*, which --out writes too"):
        check_outputs({"--out": tmp_path / "a", "--picture": tmp_path / "b" / ".." / "a"}, overwrite=True)
    with pytest.raises(ValueError, match=r"which --out writes too"):
        check_outputs({"--out": [tmp_path / "a", tmp_path / "a"]})


@pytest.mark.parametrize("name", ["manifest.json", "shard-00003.npz", "metrics.jsonl", "checkpoints/3/state"])
def test_the_files_of_a_folder_that_is_read_are_inputs(tmp_path, name):
    """Those that laegd reads there; others, such as results, are not."""
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    (tmp_path / "data" / "results.json").write_text("{}")
    check_outputs({"--out": tmp_path / "data" / "results.json"}, [tmp_path / "data"], overwrite=True)
    with pytest.raises(ValueError, match="which is an input"):
        check_outputs({"--out": path}, [tmp_path / "data"], overwrite=True)


def test_a_finished_file_is_replaced_only_where_that_is_asked_for(tmp_path):
    """A name that is free, and an empty file as mktemp makes it, are not in the way."""
    out = tmp_path / "plan.json"
    check_outputs({"--out": out})
    out.write_text("")
    check_outputs({"--out": out})
    out.write_text("{}")
    expected = (
        r"^--out: Expected a place for a new file, got .*plan\.json, which is there\. Name another, or give --over"
    )
    with pytest.raises(ValueError, match=expected):
        check_outputs({"--out": out})
    check_outputs({"--out": out}, overwrite=True)


def test_a_loop_of_links_is_told_in_a_line(tmp_path):
    """As an input and as an output."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for outputs, inputs in (({"--out": loop}, []), ({"--out": tmp_path / "a"}, [loop])):
        with pytest.raises(ValueError, match=r"loop: Expected a path that leads to a file, got: Too many levels"):
            check_outputs(outputs, inputs)


def test_devices_and_pipes_are_written_into(tmp_path):
    """They stay what they are; two outputs may go into one."""
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    check_outputs({"--out": null, "--picture": null})
    write_output(null, b"plan")
    assert null.is_symlink() and stat.S_ISCHR(null.stat().st_mode)

    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    check_outputs({"--out": pipe})
    write_output(pipe, b"plan")
    reader.join()
    assert read == [b"plan"] and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_device_is_told_in_a_line(tmp_path):
    """With the system's reason."""
    with pytest.raises(ValueError, match=r"/dev/full: Expected a writable pipe or device, got: No space left"):
        write_output(type(tmp_path)("/dev/full"), b"plan")


def test_a_link_stays_and_its_target_is_written(tmp_path):
    """There before or not."""
    link, target = tmp_path / "link.json", tmp_path / "there" / "plan.json"
    target.parent.mkdir()
    link.symlink_to(target)
    for content in (b"first", b"second"):
        write_output(link, content)
        assert link.is_symlink() and target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["plan.json"]


@pytest.fixture
def umask():
    """Sets the umask for one test."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_decides_who_may_read_a_new_file(tmp_path, umask, mask, mode):
    """As for any program's file: 0666 without the mask's bits."""
    umask(mask)
    write_atomically(tmp_path / "plan.json", b"{}")
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, umask, mode):
    """Whatever the umask."""
    umask(0o022)
    path = tmp_path / "plan.json"
    path.write_text("old")
    path.chmod(mode)
    write_output(path, b"new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path):
    """Of a process that has ended; not of one at work, of another machine, nor a file that is none of ours."""
    killed = "import os, sys, pathlib; os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
    killed += "from laegd.scenario.files import write_atomically\n"
    killed += "write_atomically(pathlib.Path(sys.argv[1]), b'half')"
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "plan.json")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".plan.json.") and left.name.endswith(".tmp")

    here = f"{zlib.crc32(socket.gethostname().encode()):08x}"
    kept = {f".a.{here}-{os.getpid()}-00000000.tmp", ".a.ffffffff-1-00000000.tmp", ".notes.tmp", "plan.tmp"}
    for name in kept:
        (tmp_path / name).write_text("")
    old = tmp_path / ".a.ffffffff-2-00000000.tmp"  # another machine's: only its age tells
    old.write_text("")
    os.utime(old, (0, 0))
    check_outputs({"--out": tmp_path / "other.json"})
    assert {path.name for path in tmp_path.iterdir()} == kept
    clear_unfinished(tmp_path / "none")


def test_reading_a_small_file_takes_little_memory(tmp_path):
    """The most that is allowed is not taken in advance: where memory is limited, that is refused."""
    (tmp_path / "file").write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_file(tmp_path / "file", "text", "") == b"12345"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_a_file_without_a_size_is_read_whole():
    """Those of /proc say that they hold nothing."""
    assert read_file(Path("/proc/self/status"), "text", "").startswith(b"Name:")
    with pytest.raises(ValueError, match="more than 1e-05 MB"):
        read_file(Path("/proc/self/status"), "text", "", max_bytes=10)


def test_regular_files_of_a_bounded_size_are_read(tmp_path):
    """No pipe is waited for, and no endless device read; the reason is named."""
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"12345")
    os.mkfifo(pipe)
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    assert read_file(file, "text", "", max_bytes=5) == b"12345"
    reasons = {"file": "more than 4e-06 MB", "pipe": "a pipe or a device", "zero": "a pipe or a device"}
    reasons |= {"loop": "Too many levels of symbolic links", "none": "No such file", ".": "Is a directory"}
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=rf": Expected text, got: {reason}.*\. Give another\."):
            read_file(tmp_path / name, "text", "Give another.", max_bytes=4)
