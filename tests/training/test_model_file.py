"""Networks as files: what is written reads back, what is not one is refused, and the one that ships is whole."""

import io
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from laegd.cli import main
from laegd.config import ExperimentConfig
from laegd.evaluation.gadsg import load
from laegd.graphs.encode import Normalisation, encode
from laegd.models.denoiser import ModelConfig
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.training.meta import check_arrays, params_of
from laegd.training.model_file import default_path, read_model
from laegd.training.step import create_state


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    """File of the small run."""
    path = tmp_path_factory.mktemp("packed") / "tiny.npz"
    main(["pack", str(run), "--out", str(path)])
    return path


def rewritten(path: Path, out: Path, **changes) -> Path:
    """A copy with other arrays; None leaves one out."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(out, **{name: values for name, values in arrays.items() if values is not None})
    return out


def about(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as archive:
        return json.loads(str(archive["about"]))


def test_a_packed_run_is_the_run(run, packed):
    """Settings, normalisation, step and every parameter are the same."""
    ours, theirs = read_model(packed), load(run).loaded
    assert theirs is not None
    assert (ours.config, ours.normalisation, ours.step) == (theirs.config, theirs.normalisation, theirs.step)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert load(packed).name == "gadsg"
    assert {"commit", "versions", "data"} <= about(packed).keys()


@pytest.mark.parametrize(
    "config",
    [
        ExperimentConfig(model=ModelConfig(hidden=16, num_layers=3)),
        ExperimentConfig(model=ModelConfig(hidden=16, num_layers=3, encoder="convolution", directed=True)),
        ExperimentConfig(model=ModelConfig(hidden=16, num_layers=3), learner="grlo"),
    ],
    ids=["attention", "convolution", "grlo"],
)
def test_expected_shapes_are_those_of_a_new_network(config):
    """Of every layer, although one stands for all."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 1, np.random.default_rng(0))
    batch = InstanceBatch.from_scenarios(scenarios)
    graph = encode(batch, Normalisation.fit([batch]))
    new = jax.eval_shape(lambda: create_state(config, graph).params)
    assert params_of(config) == new


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"a": {"b": np.zeros((2, 3))}}, r"params\['a'\]\['b'\]: Expected shape \(3, 2\), got \(2, 3\)\. The network"),
        ({"a": {"b": np.zeros((3, 2), np.float32)}}, r"params\['a'\]\['b'\]: Expected type .*float64.*float32"),
        ({"a": {"c": np.zeros((3, 2))}}, r"params\['a'\]\['b'\]: Expected shape \(3, 2\), got "),
        ({"a": {"b": np.zeros((3, 2)), "c": np.zeros(1)}}, r"params\['a'\]\['c'\]: Expected shape .*, got \(1,\)"),
    ],
    ids=["shape", "type", "name", "more"],
)
def test_arrays_of_another_network_are_named(theirs, message):
    """The first that differs."""
    ours = {"a": {"b": np.zeros((3, 2))}}
    check_arrays("params", ours, ours)
    with pytest.raises(ValueError, match=message):
        check_arrays("params", ours, theirs)


def test_evaluate_and_sweep_take_a_file_where_they_take_a_run(run, packed, tmp_path, capsys):
    """The rows are those of the run; in a sweep a file is called by its name."""
    data = str(tmp_path / "data")
    main(["generate", "--scale", "gs2_gu4_au2", "--count", "3", "--seed", "9", "--out", data])
    for name, checkpoint in (("run", run), ("file", packed)):
        out = str(tmp_path / f"{name}.json")
        main(["evaluate", "--data", data, "--checkpoint", str(checkpoint), "--methods", "gadsg", "--out", out])
    run_rows, file_rows = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("run", "file"))
    assert run_rows["results"][0]["mean_ratio"] == file_rows["results"][0]["mean_ratio"]
    main(["sweep", "--data", data, "--checkpoint", str(packed), "--out", str(tmp_path / "sweep.json")])
    assert [model["name"] for model in json.loads((tmp_path / "sweep.json").read_text())["models"]] == ["tiny"]


def with_step(path: Path, out: Path, step) -> Path:
    """A copy that says it is of another step."""
    return rewritten(path, out, about=np.array(json.dumps(about(path) | {"step": step})))


DAMAGES = {
    "no archive": lambda path, out: out.write_bytes(b"nothing"),
    "torn": lambda path, out: out.write_bytes(path.read_bytes()[:-100]),
    "pickle": lambda path, out: np.savez(out, about=np.array([{}], dtype=object)),
    "other format": lambda path, out: rewritten(path, out, about=np.array(json.dumps({"format": "other/1"}))),
    "step below 0": lambda path, out: with_step(path, out, -1),
    "step that is no number": lambda path, out: with_step(path, out, float("nan")),
    "step that is a truth": lambda path, out: with_step(path, out, True),
    "no about": lambda path, out: rewritten(path, out, about=None),
    "one parameter missing": lambda path, out: rewritten(path, out, **{"head_out/bias": None}),
    "other shape": lambda path, out: rewritten(path, out, **{"head_out/bias": np.zeros(5, np.float32)}),
    "other type": lambda path, out: rewritten(path, out, **{"head_out/bias": np.zeros(3)}),
    "nan": lambda path, out: rewritten(path, out, **{"head_out/bias": np.full(3, np.nan, np.float32)}),
    "other network": lambda path, out: rewritten(
        path,
        out,
        about=np.array(json.dumps(about(path) | {"config": {"model": {"hidden": 32}}})),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_no_network_is_refused_in_one_line(packed, tmp_path, damage):
    """The file is named, with what to do."""
    path = tmp_path / "damaged.npz"
    damage(packed, path)
    with pytest.raises(ValueError, match=r"damaged\.npz: Expected a laegd-model/1 file, got: .*`laegd pack`") as error:
        read_model(path)
    assert "\n" not in str(error.value)


def test_a_declared_size_fills_no_memory(packed, tmp_path):
    """An array that says it has a terabyte is refused by its header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**38,)})
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, header.getvalue() if name == "head_out/bias.npy" else old.read(name))
    with pytest.raises(ValueError, match=r"head_out/bias: Expected <f4 of shape \(3,\), got '<f4 of shape \(2748"):
        read_model(path)


def test_the_shipped_network_is_small_and_tells_where_it_comes_from():
    """At most 10 MB; its data and its commit are named, and the commit's tree was clean."""
    assert default_path().stat().st_size <= 10e6
    told = about(default_path())
    assert told["data"] and told["commit"] and not told["commit"].endswith("+")
    assert load().loaded is not None


def test_pack_refuses_a_place_that_cannot_be_written_and_a_folder_that_is_no_run(run, tmp_path, capsys):
    """Both are named; nothing is written."""
    folder, no_run = [str(run), "--out", str(tmp_path)], [str(tmp_path), "--out", str(tmp_path / "x.npz")]
    for arguments, message in ((folder, "a folder of that name"), (no_run, "Expected a run folder")):
        with pytest.raises(SystemExit) as end:
            main(["pack", *arguments])
        assert end.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
