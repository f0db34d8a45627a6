"""Networks at real places: what is read from a CSV file, who is chosen, whom the sites reach."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.problem.instance import Instance
from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.place_tables import read_sites
from laegd.scenario.places import Places, mean_degrees
from laegd.scenario.scenario import Scenario
from laegd.scenario.topology import scenario_from_places

SITES = 'SITE_ID,LATITUDE,LONGITUDE,NAME\n10,-37.815,144.974,"Spring St, corner"\n11,-37.8124,144.9712,136 Exhibition\n'
DEGREES_PER_M = 360 / (2 * math.pi * 6_371_008.8)  # of latitude, or of longitude on the equator


@pytest.fixture
def csv_file(tmp_path):
    def write(content):
        path = tmp_path / "places.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def assert_two_sites(places, ids=("10", "11")):
    assert places.ids == ids
    assert places.latitude_deg.tolist() == [-37.815, -37.8124]
    assert places.longitude_deg.tolist() == [144.974, 144.9712]


@pytest.mark.parametrize(
    "content",
    [
        SITES,
        SITES.replace("\n", "\r\n"),
        SITES.replace("\n", "\r"),
        "\ufeff" + SITES,
        "\n\n" + SITES + "\n\n",
        SITES.rstrip("\n"),
        "lat,lon,id\n-37.815,144.974,10\n-37.8124,144.9712,11\n",
        "Id, Lng , Lat\n 10 , 144.974 , -37.815\n11,144.9712,-37.8124,,\n",
        "site_id\tLatitude (deg)\tLong\n10\t-37.815\t144.974\n11\t-37.8124\t144.9712\n",
        "id;y;x\n10;-37.815;144.974\n11;-37.8124;144.9712\n",
        "id;Latitude;Longitude\n10;-37,815;144,974\n11;-37,8124;144,9712\n",
        'id;"Name; Ort";Latitude;Longitude\n10;"a;b";-37,815;144,974\n11;"c ""d""";-37,8124;144,9712\n',
        '"id","latitude","longitude"\n"10","-37.815","144.974"\n"11","-3.78124e1","144.9712"\n',
        'name,latitude,longitude,user id\n"two\nlines",-37.815,144.974,10\nother,-37.8124,144.9712,11\n',
    ],
)
def test_files_as_they_are_found_are_read(csv_file, content):
    """Separators, line ends, byte order mark, quotes, blanks, decimal commas, spellings of the columns."""
    assert_two_sites(read_sites(csv_file(content)))


def test_points_without_an_id_are_named_after_their_row(csv_file):
    """Row 1 is the header; a blank row counts, as in a spreadsheet."""
    assert_two_sites(read_sites(csv_file("lat,lon\n-37.815,144.974\n\n-37.8124,144.9712\n")), ("row2", "row4"))


def test_an_empty_id_is_replaced_by_the_row(csv_file):
    """A gap in the id column is no reason to give up."""
    assert_two_sites(read_sites(csv_file("id,lat,lon\n10,-37.815,144.974\n,-37.8124,144.9712\n")), ("10", "row3"))


@pytest.mark.parametrize("content", ["", " \n\n ", "\ufeff", ",,\n,,\n"])
def test_an_empty_file_is_refused(csv_file, content):
    """With the name of the file."""
    with pytest.raises(ValueError, match=r"places\.csv.*: Expected "):
        read_sites(csv_file(content))


@pytest.mark.parametrize("content", ["lat,lon\n", "lat,lon\n\n , \n"])
def test_a_header_alone_is_refused(csv_file, content):
    """No place, no network."""
    with pytest.raises(ValueError, match=r"places\.csv: Expected at least one row"):
        read_sites(csv_file(content))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("site,north,east\n1,2,3\n", "site, north, east"),
        ("-37.8,144.9\n-37.9,144.8\n", "-37.8, 144.9"),
        ("id;lat\n1;2\n", "id, lat"),
    ],
)
def test_a_file_without_coordinate_columns_is_refused_with_the_columns_it_has(csv_file, content, found):
    """So that the user sees what to rename."""
    with pytest.raises(ValueError, match=rf"row 1: Expected a header.* got the columns: {found}\."):
        read_sites(csv_file(content))


@pytest.mark.parametrize("bad", ["north", "", "91", "-90.001", "nan", "inf", "-inf", "1_0", "37,8", "37.8S", "1e400"])
def test_a_bad_latitude_is_named_by_file_row_column_and_value(csv_file, bad):
    """The third row of the file, the column as the file spells it."""
    content = f'id,LAT,lon\n1,-37.8,144.9\n2,"{bad}",144.9\n'
    with pytest.raises(ValueError) as error:
        read_sites(csv_file(content))
    assert f"places.csv, row 3, column LAT: Expected degrees from -90 to 90, got {bad!r}." in str(error.value)


@pytest.mark.parametrize("bad", ["180.5", "-181", "x"])
def test_a_bad_longitude_is_named(csv_file, bad):
    """Longitude has its own range."""
    with pytest.raises(ValueError, match=rf"row 2, column Lng: Expected degrees from -180 to 180, got '{bad}'"):
        read_sites(csv_file(f"lat,Lng\n1,{bad}\n"))


def test_a_short_row_is_named(csv_file):
    """Cells may stand under the wrong column."""
    with pytest.raises(ValueError, match=r"row 3, number of cells: Expected 2 as in the header, got 1"):
        read_sites(csv_file("lat,lon\n1,2\n3\n"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"lat,lon,name\n1,2,ok\n1,2,Caf\xe9\n", r"row 3: Expected UTF-8 text, got b'\\xe9'"),
        (b'lat,lon,name\n1,2,ok\n1,2,"never closed\n', "row 3: Expected CSV"),
        (b"id,lat,lon\na,1,2\na,3,4\n", "row 3, column id: Expected an id other than row 2's, got 'a'"),
        (b"id,lat,lon\n" + b"x" * 201 + b",1,2\n", "row 2, column id: Expected an id of at most 200 characters"),
    ],
)
def test_what_else_may_be_wrong_with_a_file_is_named(csv_file, content, says):
    """Bytes that are no UTF-8, quotes that do not close, ids that occur twice or do not fit a scenario."""
    with pytest.raises(ValueError, match=says):
        read_sites(csv_file(content))


@pytest.mark.parametrize(
    ("ids", "latitude_deg", "longitude_deg"),
    [
        (("a",), [1.0, 2.0], [1.0, 2.0]),
        (("a", "a"), [1.0, 2.0], [1.0, 2.0]),
        (("a",), [91.0], [0.0]),
        (("a",), [0.0], [np.nan]),
    ],
)
def test_places_built_in_python_are_checked_as_well(ids, latitude_deg, longitude_deg):
    """As many ids as points, each once, on the globe."""
    with pytest.raises(ValueError, match="Expected"):
        Places(ids, np.array(latitude_deg), np.array(longitude_deg))


def on_the_equator(prefix, x_m, y_m=None):
    """Returns places at so many metres east (and north) of 0, 0, where a degree is as long both ways."""
    y_m = np.zeros(len(x_m)) if y_m is None else np.asarray(y_m)
    ids = tuple(f"{prefix}{i}" for i in range(len(x_m)))
    return Places(ids, y_m * DEGREES_PER_M, np.asarray(x_m) * DEGREES_PER_M)


def rng(seed=0):
    return np.random.default_rng(seed)


def ground(scenario):
    return {server.id for server in scenario.servers if server.type == "GS"}


def test_places_end_up_at_their_metres():
    """The centre is the origin of the plane."""
    servers, users = on_the_equator("s", [100.0, -200.0]), on_the_equator("u", [0.0, 40.0], [30.0, 0.0])
    scenario, _ = scenario_from_places(servers, users, centre=(0.0, 0.0), rng=rng())
    place = {item.id: (item.x_m, item.y_m) for item in (*scenario.servers, *scenario.users)}
    for name, xy_m in {"s0": (100, 0), "s1": (-200, 0), "u0": (0, 30), "u1": (40, 0), "hap": (0, 0)}.items():
        assert place[name] == pytest.approx(xy_m, abs=1e-6), name


def test_the_sites_nearest_to_the_centre_are_taken():
    """Of sites at 0, 100, ..., 900 m, the three nearest to 620 m are those at 600, 700 and 500 m."""
    servers, users = on_the_equator("s", np.arange(10) * 100.0), on_the_equator("u", [600.0])
    centre_deg = (0.0, 620 * DEGREES_PER_M)
    scenario, _ = scenario_from_places(servers, users, centre=centre_deg, num_servers=3, rng=rng())
    assert ground(scenario) == {"s5", "s6", "s7"}


def test_the_centre_is_the_mean_of_the_sites_unless_given():
    """(0 + 100 + 800) / 3 = 300 m: the site at 100 m is nearest."""
    servers, users = on_the_equator("s", [0.0, 100.0, 800.0]), on_the_equator("u", [0.0])
    scenario, _ = scenario_from_places(servers, users, num_servers=1, rng=rng())
    assert ground(scenario) == {"s1"} and scenario.servers[-1].x_m == pytest.approx(-200.0, abs=1e-6)


def test_users_live_where_the_chosen_sites_are_nearest():
    """Sites at 0 and 1000 m; only the users below 500 m belong to the first, whatever it reaches."""
    servers, users = on_the_equator("s", [0.0, 1000.0]), on_the_equator("u", np.arange(0.0, 1000.0, 25.0))
    for seed in range(5):
        scenario, _ = scenario_from_places(
            servers, users, centre=(0.0, 0.0), num_servers=1, num_users=15, coverage_radius_m=50.0, rng=rng(seed)
        )
        assert all(user.x_m < 500 for user in scenario.users) and len(scenario.users) == 15


def test_the_nearest_others_fill_up_where_too_few_users_live_there():
    """Two users belong to the first site; the next ones are at 600 and 700 m."""
    servers, users = on_the_equator("s", [0.0, 1000.0]), on_the_equator("u", [900.0, 10.0, 700.0, 20.0, 600.0])
    scenario, _ = scenario_from_places(servers, users, centre=(0.0, 0.0), num_servers=1, num_users=4, rng=rng())
    assert sorted(round(user.x_m) for user in scenario.users) == [10, 20, 600, 700]


def test_users_who_may_be_chosen_are_chosen_alike():
    """Each of ten users is drawn in 0.3 of 200 seeds: 60 +- 5 standard deviations of 6.5."""
    servers, users = on_the_equator("s", [0.0]), on_the_equator("u", np.arange(10) * 10.0)
    drawn = [scenario_from_places(servers, users, num_users=3, rng=rng(seed))[0].users for seed in range(200)]
    counts = [sum(user.id == name for users in drawn for user in users) for name in users.ids]
    assert all(abs(count - 60) < 33 for count in counts)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0.0, 1.0), st.integers(0, 2**32))
def test_exactly_the_asked_share_of_users_flies(num_users, aerial_share, seed):
    """round(share x users), 200 m up with the aerial transmit power; everyone else on the ground."""
    servers, users = on_the_equator("s", [0.0]), on_the_equator("u", np.arange(40) * 10.0)
    scenario, report = scenario_from_places(
        servers, users, num_users=num_users, aerial_share=aerial_share, rng=rng(seed)
    )
    aerial = [user for user in scenario.users if user.type == "AU"]
    assert len(aerial) == report.num_aerial == round(aerial_share * num_users)
    assert {user.z_m for user in aerial} <= {200.0} and {user.transmit_power_w for user in aerial} <= {0.15}
    assert {user.z_m for user in scenario.users if user.type == "GU"} <= {0.0}


def test_users_out_of_reach_are_counted_by_hand():
    """Sites at 0 and 1000 m reach 250 m: the users at 300 and 700 m are out of it, the one at 250 m is not."""
    servers = on_the_equator("s", [0.0, 1000.0])
    users = on_the_equator("u", [10.0, 249.999, 300.0, 700.0, 760.0])
    arguments = {"centre": (0.0, 0.0), "coverage_radius_m": 250.0}
    _, with_hap = scenario_from_places(servers, users, rng=rng(), **arguments)
    assert set(with_hap.without_ground_server) == {"u2", "u3"} and with_hap.without_server == ()
    config = ScenarioConfig(num_haps=0)
    _, without_hap = scenario_from_places(servers, users, rng=rng(), config=config, **arguments)
    assert set(without_hap.without_server) == {"u2", "u3"} and without_hap.num_haps == 0
    assert "2 users are reached by no ground server, 2 by no server at all" in str(without_hap)


@pytest.mark.parametrize("radius_m", [50.0, 100.0, 250.0])
def test_the_report_agrees_with_the_edges_of_the_instance(radius_m):
    """Out of reach is who has no edge."""
    generator = rng(3)
    servers = on_the_equator("s", *generator.uniform(-500, 500, (2, 12)))
    users = on_the_equator("u", *generator.uniform(-600, 600, (2, 80)))
    scenario, report = scenario_from_places(
        servers, users, num_servers=5, num_users=40, coverage_radius_m=radius_m, rng=generator
    )
    instance = Instance.from_scenario(scenario)
    on_ground = instance.costs.covered[:, ~instance.nodes.server_is_hap]
    expected = {name for name, any_edge in zip(instance.user_ids, on_ground.any(axis=1), strict=True) if not any_edge}
    assert set(report.without_ground_server) == expected


def test_the_radius_changes_nobody_but_who_is_reached():
    """Networks of two radii compare: same users, same tasks."""
    servers, users = on_the_equator("s", np.arange(8) * 100.0), on_the_equator("u", np.arange(60) * 12.0)
    near, far = (
        scenario_from_places(servers, users, num_servers=4, num_users=20, coverage_radius_m=radius, rng=rng(7))[0]
        for radius in (50.0, 500.0)
    )
    assert near.users == far.users


def test_same_seed_same_bytes_and_another_seed_other_users():
    """The generator that is handed in is the only source of chance."""
    servers, users = on_the_equator("s", np.arange(8) * 100.0), on_the_equator("u", np.arange(60) * 12.0)
    first, again, other = (
        scenario_from_places(servers, users, num_servers=4, num_users=20, rng=rng(seed))[0].to_json()
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_scenario_is_a_valid_file():
    """Also where ids look like the HAP's, and with several HAPs."""
    servers = Places(("hap", "hap0"), np.array([0.0, 1e-3]), np.array([0.0, 1e-3]))
    users = on_the_equator("u", [1.0, 2.0, 3.0])
    for num_haps in (0, 1, 2):
        config = ScenarioConfig(num_haps=num_haps)
        scenario, _ = scenario_from_places(servers, users, config=config, rng=rng())
        assert Scenario.from_json(scenario.to_json()) == scenario
        assert sum(server.type == "HAP" for server in scenario.servers) == num_haps


def test_tasks_and_devices_stay_within_the_settings():
    """As the simulator draws them."""
    config = ScenarioConfig(gs_capacity_flops=2e10, deadline_s=3.0)
    servers, users = on_the_equator("s", [0.0]), on_the_equator("u", np.arange(200) * 1.0)
    scenario, _ = scenario_from_places(servers, users, config=config, rng=rng())
    for user in scenario.users:
        assert 1.2e9 <= user.workload_flop <= 7e9 and 2e9 <= user.capacity_flops <= 6.5e9
        assert 0.3 <= user.delay_weight <= 0.7 and user.deadline_s == 3.0
        assert user.task_bits == user.workload_flop / 1e3
    assert scenario.servers[-1].capacity_flops == 2e10 and scenario.servers[-1].coverage_radius_m == 900.0


def test_a_network_across_the_date_line_stays_together():
    """Two sites 0.002 degrees apart on both sides of 180 degrees; their mean is the line."""
    servers = Places(("w", "e"), np.array([0.0, 0.0]), np.array([179.999, -179.999]))
    users = Places(("u",), np.array([0.0]), np.array([-179.9995]))
    assert abs(mean_degrees(servers)[1]) == pytest.approx(180.0, abs=1e-9)
    scenario, _ = scenario_from_places(servers, users, rng=rng())
    place = {item.id: item.x_m * DEGREES_PER_M for item in (*scenario.servers, *scenario.users)}
    assert (place["w"], place["e"], place["u"]) == pytest.approx((-0.001, 0.001, 0.0005), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_servers": 0}, "^num_servers: Expected 1 to the 3 in the file"),
        ({"num_servers": 4}, "^num_servers: Expected 1 to the 3 in the file"),
        ({"num_users": 6}, "^num_users: Expected 1 to the 5 in the file"),
        ({"num_users": -1}, "^num_users"),
        ({"aerial_share": 1.1}, "^aerial_share"),
        ({"aerial_share": -0.1}, "^aerial_share"),
        ({"aerial_share": math.nan}, "^aerial_share"),
        ({"coverage_radius_m": 0.0}, "^coverage_radius_m"),
        ({"coverage_radius_m": math.inf}, "^coverage_radius_m"),
        ({"coverage_radius_m": math.nan}, "^coverage_radius_m"),
        ({"centre": (144.96, -37.81)}, "^centre.*Latitude comes first"),
        ({"centre": (math.nan, 0.0)}, "^centre"),
        ({"centre": (10.0, 10.0)}, "^servers: Expected places within 50 km of the centre"),
    ],
)
def test_a_wish_that_cannot_be_met_is_named(change, says):
    """More than there is, out of range, or latitude and longitude swapped."""
    servers, users = on_the_equator("s", [0.0, 1.0, 2.0]), on_the_equator("u", np.arange(5.0))
    with pytest.raises(ValueError, match=says):
        scenario_from_places(servers, users, rng=rng(), **change)


def test_users_in_another_town_are_refused():
    """The plane is flat only near the centre."""
    servers, users = on_the_equator("s", [0.0]), on_the_equator("u", [0.0, 60_000.0])
    with pytest.raises(ValueError, match=r"^users: Expected places within 50 km of the centre, got '60 km'"):
        scenario_from_places(servers, users, rng=rng())
