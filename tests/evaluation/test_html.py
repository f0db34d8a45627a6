"""The page of results: it holds every number, needs nothing else, and runs nothing that a file says."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from result_files import EVIL, MEANS, network, old_results, results, sweep, write

from laegd.cli import main
from laegd.evaluation.difference_map import differing_users, draw_difference
from laegd.evaluation.figures import quality_against_time
from laegd.evaluation.web.files import RESULTS_FORMAT, SWEEP_FORMAT, Paired, read_files
from laegd.evaluation.web.page import _counted, page_of, write_report
from laegd.evaluation.web.svg import to_svg
from laegd.evaluation.web.tables import difference, number
from laegd.problem.instance import LOCAL

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that every element is closed in its turn, and keeps what tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.pointers, self.scripts, self.rows = [], [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.pointers += re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, values.values())))
        if values.get("href", "").startswith("#"):
            self.pointers.append(values["href"][1:])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Result files of both kinds."""
    path = tmp_path_factory.mktemp("results")
    write(path / "results.json", results((*MEANS, EVIL)))
    write(path / "old.json", old_results())
    write(path / "sweep.json", sweep())
    return path


@pytest.fixture(scope="module")
def text(folder):
    """The page of one results file and one sweep."""
    write_report([folder / "results.json", folder / "sweep.json"], folder / "report.html")
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_formats_are_those_of_evaluate_and_sweep():
    """The page spells them again, as it does not load what writes them."""
    from laegd.evaluation import results as written
    from laegd.evaluation import sweep as swept

    assert (written.RESULTS_FORMAT, swept.SWEEP_FORMAT) == (RESULTS_FORMAT, SWEEP_FORMAT)


def test_the_command_writes_the_page(folder, capsys):
    """One line says what it holds."""
    main(["report", str(folder / "results.json"), "--out", str(folder / "deep" / "one.html")])
    out = capsys.readouterr().out
    assert re.fullmatch(r".*one\.html: 3 tables, 5 figures, 0\.\d MB\n", out)
    assert (folder / "deep" / "one.html").read_text().startswith("<!doctype html>")


def test_the_page_is_well_formed_and_small(page, text):
    """Every element is closed, every id is there once, every pointer has its target, and 11 figures stay below 3 MB."""
    assert len(page.ids) == len(set(page.ids)) and set(page.pointers) <= set(page.ids)
    figures = sum(tag == "figure" for tag, _ in page.tags)
    assert figures >= 10 and len(text) < 3e6


def test_the_page_needs_nothing_else(page, text):
    """No address at all, and a policy that forbids what is not in the page."""
    assert "://" not in text
    for _, values in page.tags:
        for name in ("src", "href"):
            assert values.get(name, "#").startswith(("#", "data:"))
    (policy,) = [values["content"] for _, values in page.tags if "http-equiv" in values]
    assert policy.startswith("default-src 'none'")


def test_names_from_files_are_words_not_markup(page):
    """The only script is ours; a name with markup stands in the tables as it is written."""
    assert len(page.scripts) == 1 and "document.title" not in page.scripts[0]
    assert any("".join(row).startswith(EVIL) for row in page.rows)


def test_every_row_of_the_files_is_in_the_tables(page):
    """Nine methods and one without a plan, 36 pairs, 28 cells of the sweep; with the means as they are."""
    firsts = [row[0] for row in page.rows if row]
    for method, (mean, _) in MEANS.items():
        assert any(row[:2] == [method, f"{mean:.4f}"] for row in page.rows), method
    assert len(results()["paired"]) == 36 and firsts.count("gadsg") == 1 + 8
    assert firsts.count("gadsg-gs3_gu7_au5") == firsts.count("mcmf") - 1 - 6 == 4


def test_every_picture_can_be_heard(page):
    """Each is an image with words for it, and stands in a figure with a caption."""
    pictures = [values for tag, values in page.tags if tag == "svg"]
    assert pictures and all(v["role"] == "img" and len(v["aria-label"]) > 20 for v in pictures)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("figure") == tags.count("figcaption") == len(pictures)


def test_how_the_numbers_were_made_is_told(text):
    """Command, commit, data, versions, settings and the models' training."""
    for words in (
        "laegd evaluate --checkpoint runs/gs3",
        "d94712c",
        "2,000 networks of gs3_gu7_au5, seed 90, labels exact, 6d5d517d2f1c34ae",
        "jax 0.10.2",
        "&quot;num_samples&quot;: 8",
        "gadsg-gs2_gu4_au2: gadsg, trained on gs2_gu4_au2, step 6000",
        "deadline_s = 1.5",
    ):
        assert words in text, words


def test_a_file_of_the_first_version_still_gives_a_page(folder):
    """No pairs, examples or quantiles, hence one table and one chart; what is not known is said."""
    text = page_of(read_files([folder / "old.json"]), ["old.json"])
    tags = [tag for tag, _ in Page(text).tags]
    assert tags.count("table") == tags.count("figure") == 1
    assert "not recorded: the file was written by an earlier version" in text


def test_the_same_files_give_the_same_bytes(folder, text):
    """No date and no chance in the pictures."""
    paths = [folder / "results.json", folder / "sweep.json"]
    assert page_of(read_files(paths), [path.name for path in paths]) == text


def test_pictures_follow_the_page_and_keep_the_methods_colours():
    """Ink and grid are the page's variables; gadsg's colour is gadsg's; words are words."""
    picture = to_svg(quality_against_time({"gadsg": [(0.01, 1.1)]}), "p", "a chart")
    assert "var(--ink)" in picture and "var(--line)" in picture and "#3b7dd8" in picture
    assert ">gadsg</text>" in picture and 'viewBox="0 0 ' in picture and "<style" not in picture


def test_the_map_of_differences_draws_both_ways_of_a_user():
    """A line for each plan in which the user is offloaded, only for users that move."""
    _, instance, best, other = network()
    users = differing_users(best, other)
    assert users == [u for u in range(instance.num_users) if best.server[u] != other.server[u]] != []
    ways = [line for line in draw_difference(instance, best, other).axes[0].get_lines() if line.get_gid() == "way"]
    assert len(ways) == sum(int(plan.server[u] != LOCAL) for plan in (best, other) for u in users)
    assert differing_users(best, best) == []


def test_names_on_the_map_of_differences_do_not_cover_each_other():
    """Ten users in a row, five metres apart, between two servers of like distance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    _, instance, best, other = network()
    nodes = instance.nodes
    spread = np.column_stack([5.0 * np.arange(instance.num_users), np.zeros((instance.num_users, 2))])
    crowded = replace(instance, nodes=nodes._replace(user_xyz_m=spread))
    figure = draw_difference(crowded, best, other)
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_gid() == "name"]
    assert len(boxes) == instance.num_servers + len(differing_users(best, other))
    covered = [
        one for one, another in combinations(boxes, 2) if one.shrunk(0.8, 0.6).overlaps(another.shrunk(0.8, 0.6))
    ]
    assert not covered


def test_a_single_model_is_called_a_model():
    """Not 1 models."""
    assert (_counted(1, "model"), _counted(2, "test set")) == ("1 model", "2 test sets")


def test_equal_plans_are_said_to_be_equal(tmp_path):
    """Then there is no map of differences, but a sentence."""
    document = results(("gadsg", "exact"))
    plans = document["examples"][0]["plans"]
    plans[1] = {**plans[0], "method": "gadsg"}
    path = write(tmp_path / "results.json", document)
    text = page_of(read_files([path]), ["results.json"])
    assert "gadsg sends every task where optimum does." in text and "where they differ" not in text


def test_the_first_learned_method_is_compared_with_the_reference(tmp_path):
    """Not the second plan of the file, if that is a heuristic."""
    _, instance, best, other = network()
    from laegd.problem.plan_json import plan_to_json

    document = results(("mcmf", "grlo"))
    plans = [best, replace(other, method="mcmf"), replace(other, method="grlo"), replace(other, method="gdsg")]
    document["examples"][0]["plans"] = [json.loads(plan_to_json(instance, plan)) for plan in plans]
    text = page_of(read_files([write(tmp_path / "results.json", document)]), ["results.json"])
    assert "Where optimum and grlo differ" in text


def test_the_headline_is_about_the_first_learned_method(tmp_path):
    """gdsg costs 3.1 % more than the optimum, wherever it stands; without a network the first method speaks."""
    for methods, words in ((("mcmf", "gdsg"), "gdsg costs 3.10 "), (("mcmf", "exact"), "mcmf costs 15.00 ")):
        path = write(tmp_path / "results.json", results(methods))
        assert f'<p class="lead">{words}' in page_of(read_files([path]), ["results.json"])


def test_the_headline_says_which_networks_the_mean_is_over(tmp_path):
    """A quarter has no plan, so the mean is not over all of them."""
    document = results(("gdsg",))
    document["results"][0] |= {"infeasible": 0.25, "instances": 2000}
    text = page_of(read_files([write(tmp_path / "results.json", document)]), ["results.json"])
    assert "on average over those of 2,000 networks that both solve, 25 % have no plan of it;" in text


@pytest.mark.parametrize("key", ["method", "test_set", "reference"])
def test_a_name_with_control_characters_gives_a_page(tmp_path, key):
    """XML has no place for them; they are shown as the sign for what cannot be shown."""
    document = results(("gdsg", "mcmf"))
    for row in (document, *document["results"]):
        row[key] = "a\x01\x00\ufffe" + row.get(key, "")
    text = page_of(read_files([write(tmp_path / "results.json", document)]), ["results.json"])
    assert "a\ufffd\ufffd\ufffd" in text and not re.search("[\x00-\x08\ufffe]", text)


def test_networks_without_a_reference_are_counted(tmp_path):
    """They have no ratio, and the reader is told how many there are."""
    document = results(("mcmf", "gdsg"))
    for entry in document["results"]:
        entry["without_reference"] = 17
    text = page_of(read_files([write(tmp_path / "results.json", document)]), ["results.json"])
    assert "for 17 of them the optimum has no plan" in text


def test_differences_are_turned_round_where_the_pair_is_kept_the_other_way():
    """a - b = 0.2, so b - a = -0.2; a pair that is not there is not known."""
    pairs = [Paired("a", "b", 0.2, 0.01, 10), Paired("a", "c", None, None, 0)]
    assert difference(pairs, "a", "b") == (0.2, 0.01) and difference(pairs, "b", "a") == (-0.2, 0.01)
    assert difference(pairs, "c", "a") == difference(pairs, "b", "c") == (None, None)


def test_a_cell_is_sorted_by_its_full_number():
    """What is shown is rounded."""
    cell = number(-0.123456, "+.2f")
    assert (cell.text, cell.value) == ("\u22120.12", -0.123456)
    assert number(None).value is None


def broken(change):
    document = results(("gadsg", "exact"))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Expected laegd-results/1 or laegd-sweep/1 in JSON"),
        ("not json", "Expected laegd-results/1 or laegd-sweep/1 in JSON"),
        ("[1]", "Expected laegd-results/1 or laegd-sweep/1 in JSON"),
        ('{"a": 1}', "format: Expected laegd-results/1 or laegd-sweep/1, got None"),
        (broken(lambda d: d.update(format="laegd-results/9")), "got 'laegd-results/9'"),
        (broken(lambda d: d.update(results=[])), "results: Expected at least one row"),
        (broken(lambda d: d["results"][0].pop("accuracy")), r"accuracy.*results\[0\]"),
        (broken(lambda d: d["results"][1].update(mean_ratio="1")), r"results\[1\]\.mean_ratio|mean_ratio"),
        (broken(lambda d: d["results"][1].update(p95_ratio=-1.0)), r"results\[1\]: Expected ratios above 0"),
        (broken(lambda d: d["results"][1].update(seconds_total=-1.0)), r"results\[1\]\.seconds_total: Expected"),
        (broken(lambda d: d["examples"][0]["scenario"].update(users=[])), r"examples\[0\]: "),
        (broken(lambda d: d["examples"][0]["plans"][0].update(cost="x")), r"examples\[0\]: .*cost"),
        (b"\xff\xfe", "Expected laegd-results/1 or laegd-sweep/1 in JSON"),
    ],
)
def test_a_file_that_is_no_result_is_refused(content, words, tmp_path, capsys):
    """One line names the file and the field; exit code 2; nothing is written."""
    path = tmp_path / "bad.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(path), "--out", str(tmp_path / "report.html")])
    error = capsys.readouterr().err
    assert error.startswith(f"laegd: {path}: ") and error.count("\n") == 1
    assert re.search(words, error), error
    assert not (tmp_path / "report.html").exists()


def test_a_missing_file_is_named(tmp_path):
    """With the reason."""
    with pytest.raises(ValueError, match=r"none\.json: Expected a readable results file, got: No such file"):
        write_report([tmp_path / "none.json"], tmp_path / "report.html")


def test_no_file_is_refused(tmp_path):
    """There is nothing to show."""
    with pytest.raises(ValueError, match=r"^files: Expected at least one results file, got none"):
        write_report([], tmp_path / "report.html")


def test_a_page_never_replaces_results(folder):
    """--out on one of the files."""
    with pytest.raises(ValueError, match="--out: Expected a place of its own"):
        write_report([folder / "old.json"], folder / "old.json")


def test_a_place_that_cannot_be_written_is_said_before_any_work(folder, tmp_path):
    """A folder of that name, and a file where a folder should be."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "report.html"):
        with pytest.raises(ValueError, match="Expected a file in a writable folder"):
            write_report([folder / "old.json"], out)
