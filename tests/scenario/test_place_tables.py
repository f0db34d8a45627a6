"""Tables of places: which columns are read, which rows are refused, and how sites that stand together are joined."""

import gzip
import os

import numpy as np
import pytest

from laegd.scenario.place_tables import SERVER_COLUMNS, USER_COLUMNS, read_places
from laegd.scenario.places import Places, PlanarPlaces, co_located, merge_sites
from laegd.scenario.topology import scenario_from_places


@pytest.fixture
def table(tmp_path):
    """Writes a file of this content and reads it."""

    def read(content, columns=SERVER_COLUMNS, name="places.csv", **options):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return read_places(path, columns, **options)

    return read


def network(servers, users, **options):
    return scenario_from_places(servers, users, rng=np.random.default_rng(0), **options)[0]


def test_a_gzipped_table_is_read(table):
    """Like the same text unpacked."""
    text = "id,lat,lon\na,1,2\n"
    assert table(text, name="places.csv.gz").places.ids == table(text).places.ids == ("a",)


@pytest.mark.parametrize(
    "content", [b"id,lat,lon\na,1,2\n", gzip.compress(b"id,lat,lon\na,1,2\n" * 99)[:-20]], ids=["plain", "cut"]
)
def test_a_damaged_gzipped_table_is_refused(tmp_path, content):
    """Plain text under the name of a gzipped file, and one that ends too soon."""
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.csv\.gz: Expected a gzipped CSV file, got"):
        read_places(tmp_path / "a.csv.gz", {})


def test_every_bad_row_is_listed_at_once(table):
    """Rows 3, 4 and 6 of the file: too long, no latitude, too short."""
    content = "id,lat,lon\na,1,2\nb,48,13,11,57\nc,,2\nd,3,4\ne,5\n"
    with pytest.raises(ValueError) as error:
        table(content)
    message = str(error.value)
    assert "got 3 that cannot" in message and message.endswith("leave them out with --skip-bad-rows.")
    for part in (
        "row 3, number of cells: Expected 3 as in the header, got 5",
        "row 4, column lat: Expected degrees from -90 to 90, got ''",
        "row 6, number of cells: Expected 3 as in the header, got 2",
    ):
        assert part in message


def test_bad_rows_are_left_out_where_that_is_asked_for(table):
    """The rest is read; the numbers of the rows are told."""
    found = table("id,lat,lon\na,1,2\nb,48,13,11,57\nc,,2\nd,3,4\n", skip_bad_rows=True)
    assert found.places.ids == ("a", "d") and found.skipped == (3, 4)
    assert str(found) == "rows left out: 3, 4"


def test_a_table_of_nothing_but_bad_rows_is_refused(table):
    """Also where they may be left out."""
    with pytest.raises(ValueError, match="Expected a row that can be read, got 'none'"):
        table("id,lat,lon\na,91,2\n", skip_bad_rows=True)


def test_metres_in_place_of_degrees_are_noticed(table):
    """Half of the rows or more lie beyond any angle."""
    with pytest.raises(ValueError, match=r"columns y and x: Expected degrees.*read them with --crs metres"):
        table("id,x,y\na,561000,5930000\nb,561200,5930100\n")


def test_small_metres_in_place_of_degrees_are_noticed_by_their_distance(table):
    """80 m and -60 m are sound degrees, thousands of kilometres apart."""
    sites, users = table("id,x,y\na,80,-60\nb,-20,30\n").places, table("id,x,y\nu,10,5\n").places
    with pytest.raises(ValueError, match="metres need --crs metres"):
        network(sites, users)


def test_projected_metres_end_up_at_their_metres(table):
    """About the mean of the sites, (560100, 5930000)."""
    sites = table("name,easting,northing\na,560000,5930000\nb,560200,5930000\n", crs="metres").places
    users = table("x_m,y_m\n560150,5930040\n", USER_COLUMNS, crs="metres").places
    scenario = network(sites, users, aerial_share=0.0)
    where = {node.id: (node.x_m, node.y_m) for node in (*scenario.servers, *scenario.users)}
    assert where == {"hap": (0, 0), "a": (-100, 0), "b": (100, 0), "row2": (50, 40)}


def test_degrees_and_metres_do_not_mix(table):
    """Servers on the globe, users on a plane."""
    with pytest.raises(ValueError, match="Expected places of the servers' kind, got 'PlanarPlaces'"):
        network(table("lat,lon\n1,2\n").places, table("x_m,y_m\n1,2\n", crs="metres").places)


def test_an_id_is_made_of_several_columns(table):
    """Cells are unique within an area only."""
    content = "lac,cellid,lat,lon\n0,0,54.32,10.13\n1,0,54.321,10.13\n"
    with pytest.raises(ValueError, match=r"row 3, column cellid: Expected an id other than row 2's, got '0'"):
        table(content)
    assert table(content, id_columns=("LAC", "cellid")).places.ids == ("0-0", "1-0")
    with pytest.raises(ValueError, match="Expected columns of the table: lac, cellid, lat, lon, got 'cell'"):
        table(content, id_columns=("cell",))


def test_used_and_unused_columns_are_told(table):
    """As the table spells them; id and position go without saying."""
    found = table("radio,cell id,Range (m),lon,lat,samples\nLTE,1,300,10,54,5\n")
    assert (found.used, found.unused) == (("Range (m)",), ("radio", "samples"))
    assert str(found) == "columns used: Range (m); columns not used: radio, samples"


def test_what_a_table_tells_of_servers_stands(table):
    """An empty cell is filled from the settings: 900 m of reach, 1.2e10 FLOP/s."""
    sites = table("id,lat,lon,range,altitude_m,capacity_flops\na,0,0,300,25,2e10\nb,0,0.001,,,\n").places
    scenario = network(sites, Places(("u",), np.zeros(1), np.zeros(1)))
    found = {s.id: (s.coverage_radius_m, s.z_m, s.capacity_flops) for s in scenario.servers if s.type == "GS"}
    assert found == {"a": (300.0, 25.0, 2e10), "b": (900.0, 0.0, 1.2e10)}


def test_what_a_table_tells_of_users_stands(table):
    """Workload and input give each other at 1,000 FLOP a bit; who is above 10 m flies."""
    header = "id,lat,lon,altitude_m,capacity_flops,task_bits,workload_flop,deadline_s,delay_weight,transmit_power_w\n"
    users = table(
        header + "up,0,0,120,4e9,2e6,,1.5,0.9,0.1\ndown,0,0,1.5,3e9,,5e9,2.5,0,0.2\nboth,0,0,0,3e9,1e6,7e9,1,1,0.3\n",
        USER_COLUMNS,
    ).places
    scenario = network(Places(("s",), np.zeros(1), np.zeros(1)), users)
    found = {
        u.id: (u.type, u.z_m, u.capacity_flops, u.task_bits, u.workload_flop, u.deadline_s, u.delay_weight)
        for u in scenario.users
    }
    assert found == {
        "up": ("AU", 120.0, 4e9, 2e6, 2e9, 1.5, 0.9),
        "down": ("GU", 1.5, 3e9, 5e6, 5e9, 2.5, 0.0),
        "both": ("GU", 0.0, 3e9, 1e6, 7e9, 1.0, 1.0),
    }
    assert {u.id: u.transmit_power_w for u in scenario.users} == {"up": 0.1, "down": 0.2, "both": 0.3}


def test_a_share_of_the_users_of_unknown_altitude_flies(table):
    """One of three is known to be up; half of the other two is one."""
    users = table("id,lat,lon,altitude_m\na,0,0,50\nb,0,0,\nc,0,0,\n", USER_COLUMNS).places
    scenario = network(Places(("s",), np.zeros(1), np.zeros(1)), users, aerial_share=0.5)
    aerial = {u.id: u.z_m for u in scenario.users if u.type == "AU"}
    assert len(aerial) == 2 and aerial.pop("a") == 50.0 and set(aerial.values()) == {200.0}


@pytest.mark.parametrize(
    ("content", "columns", "says"),
    [
        ("id,lat,lon,range\na,1,2,0\n", SERVER_COLUMNS, "column range: Expected metres above 0, got '0'"),
        ("id,lat,lon,range\na,1,2,far\n", SERVER_COLUMNS, "column range: Expected metres above 0, got 'far'"),
        ("id,lat,lon,altitude\na,1,2,-5\n", SERVER_COLUMNS, "column altitude: Expected metres from 0 to 1e"),
        ("id,lat,lon,capacity_flops\na,1,2,inf\n", SERVER_COLUMNS, "column capacity_flops: Expected FLOP/s above 0"),
        ("id,lat,lon,weight\na,1,2,1.1\n", USER_COLUMNS, "column weight: Expected a weight from 0 to 1, got '1.1'"),
        ("id,lat,lon,deadline_s\na,1,2,nan\n", USER_COLUMNS, "column deadline_s: Expected seconds above 0, got 'nan'"),
    ],
)
def test_a_bad_value_is_named_with_its_unit(table, content, columns, says):
    """By row, column, rule and value."""
    with pytest.raises(ValueError, match=f"row 2, {says}"):
        table(content, columns)


@pytest.mark.parametrize(
    ("option", "column"), [({"coverage_radius_m": 250.0}, "range"), ({"aerial_share": 0.2}, "altitude")]
)
def test_an_option_without_effect_is_refused(table, option, column):
    """The table tells it for every place."""
    sites = table(f"id,lat,lon,{column}\na,0,0,100\n").places
    users = table(f"id,lat,lon,{column}\nu,0,0,100\n", USER_COLUMNS).places
    with pytest.raises(ValueError, match=f"{next(iter(option))}: Expected no .* Leave it out"):
        network(sites, users, **option)


def sectors(x_m, **values):
    columns = {name: np.array(column, dtype=float) for name, column in values.items()}
    ids = tuple(f"s{i}" for i in range(len(x_m)))
    return PlanarPlaces(ids, np.array(x_m, dtype=float), np.zeros(len(x_m)), columns)


def test_sites_that_stand_together_are_found():
    """0 and 0.5 m are one place, 10 and 10 m another; 1.4 m is too far from 0, which is the first of its place."""
    groups = co_located(sectors([0.0, 10.0, 0.5, 1.4, 10.0]), 1.0)
    assert [group.tolist() for group in groups] == [[0, 2], [1, 4]]


def test_merged_sites_have_the_largest_reach_and_all_power():
    """The first one's id and place; what is not known of any stays so."""
    nan = np.nan
    sites = sectors(
        [0.0, 3.0, 900.0],
        coverage_radius_m=[300, 500, nan],
        capacity_flops=[1e10, nan, nan],
        active_power_w=[100, 20, 7],
        z_m=[nan, 30, 8],
    )
    merged = merge_sites(sites, 5.0)
    assert merged.ids == ("s0", "s2") and merged.x_m.tolist() == [0.0, 900.0]
    expected = {
        "coverage_radius_m": [500, nan],
        "capacity_flops": [1e10, nan],
        "active_power_w": [120, 7],
        "z_m": [30, 8],
    }
    for name, column in expected.items():
        np.testing.assert_array_equal(merged.values[name], column)


def test_merging_leaves_its_argument_as_it_was():
    """The columns are copied."""
    sites = sectors([0.0, 1.0], coverage_radius_m=[300, 500])
    merge_sites(sites, 5.0)
    assert sites.values["coverage_radius_m"].tolist() == [300, 500] and len(sites) == 2


@pytest.mark.parametrize("within_m", [-1.0, np.nan, np.inf])
def test_a_bad_distance_is_refused(within_m):
    """It must be a finite number of metres."""
    with pytest.raises(ValueError, match=r"^merge_sites_m: Expected at least 0"):
        merge_sites(sectors([0.0]), within_m)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_not_waited_for(tmp_path):
    """A named pipe without a writer would be waited for without end."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv: Expected a CSV file, got: a pipe or a device"):
        read_places(tmp_path / "a.csv", {})
