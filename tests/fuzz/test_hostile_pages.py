"""Results made to harm whoever opens their page: markup in every text, numbers that no chart can show."""

import json
import re
from html.parser import HTMLParser

import pytest
from samples import result_files

from laegd.evaluation.web.files import read_files
from laegd.evaluation.web.page import page_of, write_report

pytestmark = pytest.mark.filterwarnings("ignore")  # of glyphs that the font does not have

MARKUP = (
    "</script></style></title><script>x</script><img src=x onerror=x>\" onmouseover=x ' onfocus='x"
    "\x00\x1b\u202e&lt;${x}"
)


class Elements(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def with_markup(value, key=""):
    """Adds markup to every text and every free key of a results file; names that must agree still do."""
    if isinstance(value, dict):
        free = key in ("settings", "setting", "versions")
        return {(MARKUP + name if free else name): with_markup(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [with_markup(item, key) for item in value]
    return MARKUP + value if isinstance(value, str) and key not in ("format", "type") else value


@pytest.mark.parametrize("which", [0, 1], ids=["results", "sweep"])
def test_no_text_of_a_results_file_becomes_markup(which, tmp_path):
    """Methods, ids, settings, versions, data and the file's own name: the page has the elements of a plain one."""
    plain = json.loads(result_files(tmp_path)[which])
    evil_name = "<script>x<" + "'\"&.json"
    pages = []
    for document, name in ((plain, "results.json"), (with_markup(plain), evil_name)):
        (tmp_path / name).write_text(json.dumps(document))
        pages.append(page_of(read_files([tmp_path / name]), [name]))
    ours, theirs = map(Elements, pages)
    assert theirs.tags.count("script") == 1 and "img" not in theirs.tags
    assert set(theirs.tags) <= set(ours.tags)
    assert not [key for key, _ in theirs.attributes if key.startswith("on")]
    assert {key for key, _ in theirs.attributes} <= {key for key, _ in ours.attributes}
    assert not [
        value for key, value in theirs.attributes if key in ("href", "src") and not value.startswith(("#", "data:"))
    ]
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", pages[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["results"][0].update(mean_ratio=1e300), r"results\[0\]: Expected ratios of at most"),
        (lambda d: d["results"][0].update(accuracy=1e300), r"results\[0\]\.accuracy: Expected a share"),
        (lambda d: d["results"][0].update(seconds_model=1e300), r"results\[0\]\.seconds_model: Expected at most"),
        (lambda d: d["results"][0].update(instances=10**400), r"results\[0\]\.instances: Expected a count"),
        (lambda d: d["paired"][0].update(better=10**400), r"paired\[0\]: Expected counts"),
        (lambda d: d["paired"][0].update(mean_difference=1e308), r"paired\[0\]: Expected at most"),
        (lambda d: d["data"].update(count=-1), r"data\[0\]\.count: Expected a count"),
        (lambda d: d["settings"].update(a=json.loads("[" * 60 + "]" * 60)), "settings: Expected at most 50 levels"),
        (
            lambda d: d.update(
                results=[{**d["results"][0], "method": f"m{i}", "test_set": f"t{i}"} for i in range(100)]
            ),
            "results: Expected at most 5,000 models x test sets, got 10000",
        ),
    ],
)
def test_results_that_no_chart_can_show_are_refused(tmp_path, change, message):
    document = json.loads(result_files(tmp_path)[0])
    change(document)
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"results\.json: {message}"):
        write_report([tmp_path / "results.json"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_network_of_thousands_of_users_has_no_map(tmp_path):
    """A sentence stands in its place."""
    document = json.loads(result_files(tmp_path)[0])
    example = document["examples"][0]
    user, plan = example["scenario"]["users"][0], example["plans"][0]
    example["scenario"]["users"] = [{**user, "id": f"u{i}"} for i in range(3000)]
    plan["users"] = [{**plan["users"][0], "id": f"u{i}", "server": None} for i in range(3000)]
    example["plans"] = [plan]
    (tmp_path / "results.json").write_text(json.dumps(document))
    text = page_of(read_files([tmp_path / "results.json"]), ["results.json"])
    assert "3,000 users and 4 servers are too many for a map." in text
