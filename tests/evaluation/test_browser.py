"""The page in a browser: tables sort, pictures show something, a telephone is wide enough, the network stays silent."""

import base64
import io
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from checks import missing
from matplotlib import image
from result_files import EVIL, MEANS, results, sweep, write

from laegd.evaluation.web.page import write_report

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK, TELEPHONE = (1280, 900), (390, 844)  # pixels
FEW_COLOURS = 12


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    """A browser of its own, without profile and network services, at the page of a results file and a sweep."""
    if not (BROWSER and DRIVER):
        missing("BROWSER", "no browser: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("browser")
    document = results((*MEANS, EVIL))
    # One number that as a word stands before the others: 10.5 < 2.3.
    document["results"][2]["mean_ratio"] = 10.5
    paths = [write(folder / "results.json", document), write(folder / "sweep.json", sweep())]
    write_report(paths, folder / "report.html")
    options = ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    # With the driver's path, selenium looks for none, which it would do on the network.
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.get((folder / "report.html").as_uri())
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    yield driver
    driver.quit()


def resize(browser, size, scheme="light"):
    """Sets the size of the window as seen by the page, and the reader's colours."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def pixels(browser):
    """Returns the whole page as [row, column, channel]."""
    size = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return image.imread(io.BytesIO(base64.b64decode(shot["data"])))[..., :3]


def num_colours(part):
    """Counts them; every other pixel will do."""
    return len(np.unique((255 * part[::2, ::2]).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])))


BOXES = """return [...document.querySelectorAll(arguments[0])].map(e => {
  const r = e.getBoundingClientRect();
  return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })"""


def test_the_page_runs_without_complaint_and_asks_the_network_for_nothing(browser):
    """No line in the console; nothing was requested but the page itself; the name with a script did not run."""
    assert browser.get_log("browser") == []
    requested = [line["message"] for line in browser.get_log("performance") if "requestWillBeSent" in line["message"]]
    assert requested and not [line for line in requested if '"url":"http' in line]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.title == "Results on gs3_gu7_au5 and 7 models on 4 test sets"


COLUMN = """const [table, column] = arguments;
return [...document.querySelectorAll("table.sortable")[table].tBodies[0].rows].map(row =>
  [row.cells[column].dataset.value ?? null, row.cells[column].textContent])"""
CLICK = """const [table, column] = arguments;
const heading = document.querySelectorAll("table.sortable")[table].tHead.rows[0].cells[column];
heading.querySelector("button").click();
return [...heading.parentNode.cells].map(cell => cell.getAttribute("aria-sort"))"""


def sorted_upwards(entries):
    """Whether numbers stand in order of their values, the unknown last."""
    known = [float(value) for value, _ in entries if value != ""]
    unknown_last = all(value == "" for value, _ in entries[len(known) :])
    return unknown_last and known == sorted(known)


def distinct(entries):
    """Words in the order in which they come, equal neighbours once."""
    return [text for i, (_, text) in enumerate(entries) if i == 0 or entries[i - 1][1] != text]


def test_every_column_of_every_table_sorts_both_ways(browser):
    """A click sorts upwards, another one downwards; only the heading that was clicked says so; no row is lost."""
    shape = browser.execute_script(
        "return [...document.querySelectorAll('table.sortable')].map(t => t.tHead.rows[0].cells.length)"
    )
    assert len(shape) == 4
    for table, columns in enumerate(shape):
        for column in range(columns):
            before = browser.execute_script(COLUMN, table, column)
            up, down = (clicked(browser, table, column, way, columns) for way in ("ascending", "descending"))
            assert sorted(map(str, up)) == sorted(map(str, down)) == sorted(map(str, before))
            if up[0][0] is None:
                assert distinct(up) == distinct(down)[::-1] and len(set(distinct(up))) == len(distinct(up))
            else:
                unknown = [entry for entry in up if entry[0] == ""]
                known_down = down[: len(down) - len(unknown)]
                assert sorted_upwards(up) and sorted_upwards([*known_down[::-1], *down[len(known_down) :]])


def clicked(browser, table, column, direction, columns):
    """Clicks a heading; returns the column as it then stands."""
    marks = browser.execute_script(CLICK, table, column)
    assert marks == [direction if i == column else None for i in range(columns)]
    return browser.execute_script(COLUMN, table, column)


def test_numbers_are_not_sorted_as_words(browser):
    """10.5 is more than 2.3; and as words, exact comes before gadsg."""
    while browser.execute_script(CLICK, 0, 1)[1] != "ascending":
        pass
    means = [text for value, text in browser.execute_script(COLUMN, 0, 1) if value]
    assert means[-2:] == ["2.3000", "10.5000"]
    while browser.execute_script(CLICK, 0, 0)[0] != "ascending":
        pass
    names = [text for _, text in browser.execute_script(COLUMN, 0, 0)]
    known = ["ao", "exact", "exact@0.001", "gadsg", "gdsg", "grlo", "mcmf", "random-belief", "re"]
    assert [name for name in names if name != EVIL] == known


def test_tables_sort_from_the_keyboard(browser):
    """The heading takes the focus, Enter and the space bar sort."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    heading = browser.find_elements(By.CSS_SELECTOR, "table.sortable thead th")[2]
    button = heading.find_element(By.TAG_NAME, "button")
    seen = []
    for key in (Keys.ENTER, Keys.SPACE):
        button.send_keys(key)
        seen.append(heading.get_attribute("aria-sort"))
    assert sorted(seen) == ["ascending", "descending"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, TELEPHONE], ids=["desk", "telephone"])
def test_every_picture_shows_something(browser, size, scheme):
    """A box on the page with more than a few colours, as wide as the page allows, on light and on dark paper."""
    resize(browser, size, scheme)
    boxes, page = browser.execute_script(BOXES, "svg"), pixels(browser)
    assert len(boxes) == 11
    for left, top, width, height in boxes:
        assert width > 250 and height > 100 and left >= 0 and left + width <= size[0]
        part = page[int(top) : int(top + height), int(left) : int(left + width)]
        assert num_colours(part) > FEW_COLOURS
        corner = part[2, -2].mean()
        assert corner > 0.9 if scheme == "light" else corner < 0.2


@pytest.mark.parametrize("size", [DESK, TELEPHONE], ids=["desk", "telephone"])
def test_the_page_never_scrolls_sideways(browser, size):
    """Also with all details open; a wide table scrolls in a box of its own."""
    resize(browser, size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    browser.execute_script("window.scrollTo(500, 0)")
    assert browser.execute_script("return window.scrollX") == 0
    for x, _, width, _ in browser.execute_script(BOXES, "main > section, .scroll, figure, pre, dl"):
        assert x >= 0 and x + width <= size[0]
    wide = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.execute_script(wide) > 0 if size == TELEPHONE else True
