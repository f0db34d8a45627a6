"""One self-contained page of results: no file beside it, no network, readable on a telephone, light and dark."""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from laegd.evaluation.web.files import Data, ResultFile, read_files
from laegd.evaluation.web.pictures import LEARNED, charts, maps
from laegd.evaluation.web.svg import showable
from laegd.evaluation.web.tables import NOT_KNOWN, paired_table, quality_table
from laegd.scenario.outputs import check_outputs, write_output

DEFINITIONS = (
    ("cost", "weighted delay and energy of all tasks of one network under a plan; the allocation of the plan counts."),
    (
        "cost ratio",
        "cost of a plan over the cost of the reference's plan for the same network. Against the certified "
        "optimum it is never below 1. Means and quantiles are over networks "
        "for which both the method and the reference have a feasible plan.",
    ),
    ("s.e.", "standard error of the mean: standard deviation over networks divided by the root of their number."),
    (
        "accurate",
        "share of all networks whose plan is feasible and has a cost ratio below 1.1; a network without a "
        "feasible plan counts as not accurate and is never dropped.",
    ),
    ("infeasible", "share of networks for which a method gave no plan that keeps all deadlines and capacities."),
    (
        "difference",
        "ratio of one method minus that of another, network by network where both have a plan, then the mean; "
        "as both see the same networks, its standard error is usually well below those of the two means.",
    ),
    ("time", "seconds of wall clock per network on the device named above; model and decoding are parts of the total."),
)


def write_report(paths: Sequence[Path], out: Path) -> str:
    """Writes the page, also over an older one; returns what it holds, in words.

    Raises:
        ValueError: A file cannot be read or is no results file, or the page cannot be written.
    """
    check_outputs({"--out": out}, paths, overwrite=True)
    page = page_of(read_files(paths), [path.name for path in paths])
    write_output(out, page.encode())
    size_mb = len(page.encode()) / 1e6
    return f"{page.count('<table')} tables, {page.count('<figure>')} figures, {size_mb:.1f} MB"


def page_of(results: Sequence[ResultFile], names: Sequence[str]) -> str:
    """Returns the page as HTML.

    Args:
        results: At least one.
        names: What the files are called; one each.
    """
    folder = files("laegd.evaluation.web")
    script = (folder / "report.js").read_text(encoding="utf-8")
    sections = [
        _section(f"file{i}", file, name, several=len(results) > 1)
        for i, (file, name) in enumerate(zip(results, names, strict=True), 1)
    ]
    page = Template((folder / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(" and ".join(dict.fromkeys(_title(file) for file in results))),
        # Only this script runs: whatever a file says, it cannot bring one of its own.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script=script,
        contents=_contents(results, names),
        sections="\n".join(sections),
        definitions=_pairs(DEFINITIONS),
    )
    return showable(page)


def _title(file: ResultFile) -> str:
    sets = list(dict.fromkeys(row.test_set for row in file.results))
    if not file.is_sweep:
        return f"Results on {sets[0]}"
    return f"{_counted(len(file.models) or 1, 'model')} on {_counted(len(sets), 'test set')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _contents(results: Sequence[ResultFile], names: Sequence[str]) -> str:
    if len(results) < 2:
        return ""
    entries = [
        f'<li><a href="#file{i}">{escape(_title(file))}</a> <span class="muted">{escape(name)}</span></li>'
        for i, (file, name) in enumerate(zip(results, names, strict=True), 1)
    ]
    return f'<nav aria-label="Files"><ul>{"".join(entries)}</ul></nav>'


def _section(ident: str, file: ResultFile, name: str, several: bool) -> str:
    parts = [
        f'<section id="{ident}" aria-labelledby="{ident}-title">',
        f'<h2 id="{ident}-title">{escape(_title(file)) if several else "In short"}</h2>',
        f'<p class="lead">{escape(_headline(file))}</p>',
        f'<dl class="facts">{_pairs(_facts(file, name))}</dl>',
        quality_table(f"{ident}-quality", file),
        charts(ident, file),
    ]
    if file.examples:
        parts += ["<h3>Solved networks</h3>", maps(ident, file.examples)]
    if file.paired:
        summary = f"Methods compared network by network, {len(file.paired)} pairs"
        parts += [f"<details><summary>{summary}</summary>", paired_table(f"{ident}-pairs", file.paired), "</details>"]
    return "\n".join([*parts, _origin(file), "</section>"])


def _headline(file: ResultFile) -> str:
    """Says in a sentence how the best of a sweep did, or the first learned method, or where there is none the first."""
    rows = [row for row in file.results if row.mean_ratio is not None]
    if not rows:
        return "No method found a feasible plan."
    learned = [row for row in rows if row.method.startswith(LEARNED)]
    row = min(rows, key=lambda row: row.mean_ratio or 0.0) if file.is_sweep else (learned or rows)[0]
    excess = 100 * ((row.mean_ratio or 0.0) - 1)
    error = "" if row.ratio_standard_error is None else f" \u00b1 {100 * row.ratio_standard_error:.2f}"
    who = f"{row.model or row.method} on {row.test_set}" if file.is_sweep else row.method
    best = "Best mean: " if file.is_sweep else ""
    networks = f"{row.instances:,} networks"
    if row.infeasible or row.without_reference:
        networks = f"those of {networks} that both solve, {100 * row.infeasible:.3g} % have no plan of it"
    return (
        f"{best}{who} costs {excess:.2f}{error} % more than the {file.reference_name} on average over {networks}; "
        f"{100 * row.accuracy:.1f} % of all are within 10 %; {1e3 * row.seconds_total:.3g} ms per network."
    )


def _data_in_words(data: Data) -> str:
    setting = "".join(f", {key} = {value}" for key, value in data.setting.items())
    name = f"{data.name}: " if data.name and data.name != data.scale else ""
    origin = "of one's own" if data.seed is None else f"seed {data.seed}"
    return f"{name}{data.count:,} networks of {data.scale}{setting}, {origin}, labels {data.labels}, {data.digest}"


def _facts(file: ResultFile, name: str) -> list[tuple[str, str]]:
    methods = list(dict.fromkeys(row.method for row in file.results))
    facts = [("Evaluated", ", ".join(methods)), ("Reference", file.reference_name)]
    facts += [("Data", _data_in_words(data)) for data in file.data_sets]
    facts += [("Device", file.device), ("Date", file.created or ""), ("Commit", file.commit or ""), ("File", name)]
    return [(term, text or NOT_KNOWN) for term, text in facts]


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in pairs)


def _origin(file: ResultFile) -> str:
    """How the numbers of one file were made."""
    command = file.command or "not recorded: the file was written by an earlier version"
    versions = ", ".join(f"{name} {number}" for name, number in file.versions.items())
    facts = [("Command", command), ("Commit", file.commit or NOT_KNOWN), ("Date", file.created or NOT_KNOWN)]
    facts += [("Data", _data_in_words(data)) for data in file.data_sets]
    facts += [("Device", file.device or NOT_KNOWN), ("Versions", versions or NOT_KNOWN)]
    settings = file.settings or {model.name: model.settings for model in file.models if model.settings is not None}
    trained = [f"{m.name}: {m.method}, trained on {', '.join(m.trained_on)}, step {m.step}" for m in file.models]
    facts += [("Model", text) for text in trained]
    return (
        f'<details><summary>How each number was made</summary>\n<dl class="facts">{_pairs(facts)}</dl>\n'
        f"<h4>Settings</h4>\n<pre tabindex='0'>{escape(json.dumps(settings, indent=1, ensure_ascii=False))}</pre>\n"
        "</details>"
    )
