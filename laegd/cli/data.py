"""Commands that make networks: `generate`, `export`, `import-sites`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from laegd.cli.console import progress_bar, say
from laegd.cli.methods import OptionalFloat, OptionalInt, OptionalName, OptionalNames, OptionalPath

if TYPE_CHECKING:
    from laegd.scenario.places import AnyPlaces


def _parse_shard(text: str) -> tuple[int, int]:
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--shard: Expected i/n such as 2/16, got {text!r}. Count from 1.")
    return int(index), int(parts)


def generate(
    out: Path,
    scale: OptionalName = None,
    count: OptionalInt = None,
    scenarios: OptionalPath = None,
    seed: int = 0,
    labels: Literal["exact", "mcmf", "none"] = "exact",
    shard: Annotated[str, arg(metavar="I/N")] = "1/1",
    workers: int = 0,
    config: OptionalPath = None,
) -> None:
    """Makes a labelled data set of networks that it draws, or of one's own.

    Args:
        out: Folder of the data set. The same command continues an interrupted run.
        scale: Numbers of ground servers, ground users and aerial users, such as gs3_gu7_au5.
        count: Number of instances.
        scenarios: Networks of one's own instead of drawn ones: a folder of scenarios, or a list of them, *.jsonl.
        seed: The same seed and settings give the same bytes.
        labels: Certified optimum, the paper's heuristic, or no labels.
        shard: Part i/n, such as 2/16, to share the work between machines.
        workers: Processes; 0: one per core.
        config: TOML with scenario settings that differ from the defaults, such as deadline_s = 1.5.
    """
    from laegd.cli.scenarios import read_scenarios
    from laegd.graphs.dataset import Collection, Recipe, Source
    from laegd.graphs.dataset import generate as make
    from laegd.graphs.processes import num_cores
    from laegd.scenario.settings import load_scenario_config

    part = _parse_shard(shard)
    source: Source
    if scenarios is None:
        if scale is None:
            raise ValueError("--scale: Expected a value, or --scenarios, got neither. Use e.g. --scale gs3_gu7_au5.")
        if count is None:
            raise ValueError("--count: Expected a value, or --scenarios, got neither. Use e.g. --count 2000.")
        settings = {"scenario": load_scenario_config(config)} if config else {}
        source = Recipe(scale, count, seed, labels, **settings)
        what = scale
    else:
        options = {"--scale": scale, "--count": count, "--seed": seed or None, "--config": config}
        for name, value in options.items():
            if value is not None:
                raise ValueError(f"{name}: Expected nothing beside --scenarios, got {value}. Leave one of them out.")
        if out.resolve() == scenarios.resolve():
            raise ValueError(f"--out: Expected a folder of its own, got {out}, which is an input. Name another.")
        source = Collection.of(read_scenarios(scenarios), labels)
        count, what = sum(map(len, source.blocks)), str(scenarios)
    with progress_bar(f"{what} {labels}") as bar:
        complete = make(source, out, part, workers or num_cores(), lambda d, t: bar(d, t, ""))
    if complete:
        say(f"{out}: {count} instances of {what}, labels {labels}, complete")
    elif part[0] > source.num_blocks:
        say(f"{out}: part {shard} has nothing to do: {count} instances are {source.num_blocks} shards. Use fewer parts")
    else:
        say(f"{out}: part {shard} is done; the manifest is written when all parts are")


def export(
    data: Positional[Path], out: Path, index: int = 0, overwrite: Annotated[bool, FlagCreatePairsOff] = False
) -> None:
    """Writes one instance of a data set as a scenario file.

    Args:
        data: Folder of the data set.
        out: Scenario file, JSON.
        index: Number of the instance, from 0.
        overwrite: Replaces a finished file of that name; an input never.
    """
    from laegd.graphs.dataset import Dataset
    from laegd.scenario.outputs import check_outputs, write_output

    check_outputs({"--out": out}, [data], overwrite)
    dataset = Dataset.open(data)
    if not 0 <= index < len(dataset):
        raise ValueError(
            f"--index: Expected 0 to {len(dataset) - 1}, got {index}. The data set has {len(dataset)} instances."
        )
    (one,) = dataset.read_range(index, index + 1)
    write_output(out, one.scenarios.scenario(0).to_json())
    name = "" if dataset.recipe else f", {dataset.name(index)}"
    say(f"{out}: instance {index} of {dataset.manifest.scale}{name}")


def import_sites(
    servers: Path,
    users: Path,
    out: Path,
    centre: Annotated[str | None, arg(metavar="LAT,LON", help_behavior_hint="")] = None,
    num_servers: OptionalInt = None,
    num_users: OptionalInt = None,
    aerial_share: OptionalFloat = None,
    coverage_radius_m: OptionalFloat = None,
    crs: Literal["degrees", "metres"] = "degrees",
    server_id: OptionalNames = None,
    user_id: OptionalNames = None,
    merge_sites_m: OptionalFloat = None,
    skip_bad_rows: Annotated[bool, FlagCreatePairsOff] = False,
    config: OptionalPath = None,
    seed: int = 0,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Turns tables of real places (CSV, plain or gzipped) into a scenario.

    Columns for reach, altitude, devices and tasks are used where a table has them; docs/formats.md names them.

    Args:
        servers: CSV of server sites.
        users: CSV of user places.
        out: Scenario file, JSON.
        centre: Latitude and longitude in degrees, or x and y in metres; default: the mean of the sites.
        num_servers: Takes the sites nearest to the centre; default: all.
        num_users: Draws this many users; default: all.
        aerial_share: Share of the users of unknown altitude that fly, 0 to 1; default: 0.4.
        coverage_radius_m: Horizontal reach of a ground server of unknown reach; default: 900.
        crs: Positions are latitude and longitude in degrees, or x and y in metres on a plane.
        server_id: Columns that together make the id of a site, separated by commas.
        user_id: Columns that together make the id of a user, separated by commas.
        merge_sites_m: Makes one server of sites that stand within this distance, in metres.
        skip_bad_rows: Leaves out rows that cannot be read, and says which.
        config: TOML with scenario settings that differ from the defaults, such as num_haps = 2.
        seed: Seed of tasks, devices and the choice of users.
        overwrite: Replaces a finished file of that name; an input never.
    """
    import numpy as np

    from laegd.scenario.outputs import check_outputs, write_output
    from laegd.scenario.place_tables import SERVER_COLUMNS, USER_COLUMNS, read_places
    from laegd.scenario.places import merge_sites
    from laegd.scenario.scenario import require
    from laegd.scenario.settings import load_scenario_config
    from laegd.scenario.topology import scenario_from_places

    require(seed >= 0, "--seed", "a seed of at least 0", seed, "Use 0.")
    check_outputs({"--out": out}, [servers, users, config], overwrite)
    sites = read_places(servers, SERVER_COLUMNS, crs=crs, id_columns=_names(server_id), skip_bad_rows=skip_bad_rows)
    people = read_places(users, USER_COLUMNS, crs=crs, id_columns=_names(user_id), skip_bad_rows=skip_bad_rows)
    scenario, coverage = scenario_from_places(
        sites.places if merge_sites_m is None else merge_sites(sites.places, merge_sites_m),
        people.places,
        rng=np.random.default_rng(seed),
        centre=_parse_centre(centre),
        num_servers=num_servers,
        num_users=num_users,
        aerial_share=aerial_share,
        coverage_radius_m=coverage_radius_m,
        config=load_scenario_config(config) if config else None,
    )
    write_output(out, scenario.to_json())
    say(f"{out}: {coverage}")
    for path, table in ((servers, sites), (users, people)):
        if str(table):
            say(f"{path}: {table}")
    if line := _describe_co_located(sites.places, merge_sites_m):
        say(f"{servers}: {line}")


def _describe_co_located(sites: "AnyPlaces", merged_within_m: float | None) -> str:
    """Tells which sites stand together; nothing where none do."""
    from laegd.scenario.places import SAME_PLACE_M, co_located
    from laegd.scenario.scenario import in_short

    within_m = SAME_PLACE_M if merged_within_m is None else merged_within_m
    groups = co_located(sites, within_m)
    if not groups:
        return ""
    names = in_short("; ".join(", ".join(sites.ids[site] for site in group) for group in groups))
    count = sum(map(len, groups))
    found = f"{count} sites at {len(groups)} places, within {within_m:g} m of each other"
    what = f"join them with --merge-sites-m {within_m:g}" if merged_within_m is None else "joined"
    return f"{found}: {names}; {what}"


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []


def _parse_centre(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise ValueError(
            f"--centre: Expected two numbers, latitude,longitude or x,y, got {text!r}. Write --centre=-37.81,144.96."
        ) from None
    return first, second
