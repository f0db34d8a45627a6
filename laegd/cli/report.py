"""The command that shows results: `report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from laegd.cli.console import say


def report(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="RESULTS ...", help_behavior_hint="(required)")],
    out: Path,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Writes one page of tables and figures from results of evaluate and sweep; it needs no network.

    Args:
        files: Results of evaluate and sweep, JSON.
        out: The page, HTML.
        overwrite: Replaces a finished file of that name; an input never.
    """
    from laegd.evaluation.web.page import write_report
    from laegd.scenario.outputs import check_outputs

    check_outputs({"--out": out}, files, overwrite)
    say(f"{out}: {write_report(files, out)}")
