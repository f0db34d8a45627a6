"""Commands that compare: `evaluate`, methods on one data set, and `sweep`, models on many."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, UseAppendAction, arg

from laegd.cli.console import join_cluster, progress_bar, say, show
from laegd.cli.effects import require_effects
from laegd.cli.methods import (
    AS_TRAINED,
    METHODS,
    WITHOUT_LIMITS,
    OptionalName,
    OptionalNames,
    ProofLimits,
    Sampling,
    is_model_free,
    load_network,
    make_model_free,
    make_solvers,
    settings_of,
    split_names,
)
from laegd.cli.work import Target, Work, begun, is_finished
from laegd.training.cluster import ALONE_OR_SLURM, Cluster

if TYPE_CHECKING:
    from laegd.evaluation.benchmark import RunConfig
    from laegd.evaluation.rows import Rows
    from laegd.evaluation.sweep import Model, TestSet
    from laegd.graphs.dataset import Dataset
    from laegd.problem.instance import Solver

NUM_EXAMPLES = 3  # instances whose plans stand in the results

# Several after one option, or the option several times: `--data A B` and `--data A --data B` are the same.
_Folders = tuple[tuple[Path, ...], ...]
Runs = Annotated[UseAppendAction[_Folders], arg(metavar="RUN ...", help_behavior_hint="")]
SomeRuns = Annotated[UseAppendAction[_Folders], arg(metavar="RUN ...", help_behavior_hint="(required)")]
SomeData = Annotated[UseAppendAction[_Folders], arg(metavar="DIR ...", help_behavior_hint="(required)")]


def evaluate(
    data: Path,
    out: Path,
    checkpoint: Runs = (),
    methods: OptionalNames = None,
    reference: OptionalName = None,
    examples: int = NUM_EXAMPLES,
    workers: int = 1,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
    limits: Annotated[ProofLimits, OmitArgPrefixes] = WITHOUT_LIMITS,
    sampling: Annotated[Sampling, OmitArgPrefixes] = AS_TRAINED,
    cluster: Annotated[Cluster, OmitArgPrefixes] = ALONE_OR_SLURM,
) -> None:
    """Compares methods on a data set; prints tables, writes results and a CSV with a row per instance.

    What is solved is kept as it comes: after an interruption the same command goes on where it stopped.

    Args:
        data: Folder of the data set.
        out: Results, JSON; the CSV stands beside it.
        checkpoint: Run folders or files, one per learned method; "default" is the network that ships with laegd.
        methods: Any of re, ao, mcmf, mcmf-search, grlo, gdsg, gdsg-both, gadsg, gadsg-directed, random-belief,
            certified, exact and exact@SECONDS, separated by commas; default: re, ao, mcmf, those of the
            runs and random-belief, exact.
        reference: What costs are compared with: optimum or mcmf, as the data are labelled, or one of the methods;
            default: the labels.
        examples: Instances whose whole plans are written too, for a report.
        workers: Processes for re, ao, mcmf and exact; their times suffer where cores are shared.
        overwrite: Replaces finished results of that name; an input never.
        limits: Of exact and certified.
        sampling: Settings of learned methods and random-belief.
        cluster: Where several processes share the instances.
    """
    from laegd.evaluation.benchmark import RunConfig, choose_reference
    from laegd.graphs.dataset import Dataset

    join_cluster(cluster)
    settings = RunConfig(examples, workers)
    dataset = Dataset.open(data)
    names = None if methods is None else split_names(methods)
    if names is not None:
        require_effects(names, False, sampling, limits, workers)
        choose_reference(reference, [dataset], names)
    runs = _joined(checkpoint)
    solvers = make_solvers(names, runs, sampling, limits)
    target = Target(out, (data, *runs), overwrite, cluster.stuck_after_s)
    compare(solvers, dataset, target, reference, settings)


def compare(
    solvers: "Sequence[Solver]",
    dataset: "Dataset",
    target: Target,
    reference: str | None = None,
    settings: "RunConfig | None" = None,
) -> None:
    """Runs every solver on the data set, writes results and their CSV, prints the tables."""
    from laegd.evaluation.benchmark import RunConfig, against, choose_reference, compare_pairs, summarise
    from laegd.evaluation.report import differences_table, results_table
    from laegd.evaluation.results import Comparison, digest_of, examples, surroundings, write_results

    settings = RunConfig(NUM_EXAMPLES) if settings is None else settings
    names = [solver.name for solver in solvers]
    reference = choose_reference(reference, [dataset], names)
    solver_settings = {solver.name: settings_of(solver) for solver in solvers}
    data = {"digest": dataset.digest, "files": dataset.files_digest}
    subject = {"solvers": solver_settings, "data": data, "examples": settings.num_examples, **surroundings()}
    total = len(solvers) * len(dataset.manifest.shards)
    identity = digest_of(subject, reference)
    if is_finished(target, identity):
        return
    with begun(target, subject, total) as work:
        rows = {solver.name: _run(solver, dataset, work, solver.name, settings) for solver in solvers}
        rows = against(reference, dataset, rows)
        results = [(summarise(name, dataset, rows[name], reference), rows[name]) for name in names]
        found = Comparison(
            dataset,
            solver_settings,
            results,
            compare_pairs(rows),
            examples(dataset, names, work.journal, settings.num_examples),
            identity,
        )
        work.finish(lambda: write_results(target.out, found))
    m = dataset.manifest
    origin = "of one's own" if m.seed is None else f"seed {m.seed}"
    title = f"{m.count} instances of {m.scale}, {origin}, data {dataset.digest}"
    show(results_table([summary for summary, _ in results], title))
    if len(names) > 1:
        show(differences_table(found.paired, names[0]))
    if not all(map(is_model_free, names)):
        _say_devices()
    _say_what_has_no_reference(results[0][0].without_reference, reference, "")


def sweep(
    checkpoint: SomeRuns,
    data: SomeData,
    out: Path,
    methods: OptionalNames = None,
    reference: OptionalName = None,
    workers: int = 1,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
    limits: Annotated[ProofLimits, OmitArgPrefixes] = WITHOUT_LIMITS,
    sampling: Annotated[Sampling, OmitArgPrefixes] = AS_TRAINED,
    cluster: Annotated[Cluster, OmitArgPrefixes] = ALONE_OR_SLURM,
) -> None:
    """Compares trained networks on data sets of any scales and settings; prints a matrix, writes results and a CSV.

    What is solved is kept as it comes: after an interruption the same command goes on where it stopped.

    Args:
        checkpoint: Run folders or files, by which models are called; "default" is the network that ships with laegd.
        data: Folders of data sets; drawn under other settings, they are called by what differs.
        out: Results, JSON; the CSV stands beside it.
        methods: Methods without a network to compare with, such as ao,exact.
        reference: What costs are compared with: optimum or mcmf, as the data are labelled, or one of the methods;
            default: the labels.
        workers: Processes for methods without a network.
        overwrite: Replaces finished results of that name; an input never.
        limits: Of exact and certified.
        sampling: Settings of the networks.
        cluster: Where several processes share the instances.
    """
    from laegd.evaluation.benchmark import RunConfig, choose_reference
    from laegd.evaluation.report import sweep_legend, sweep_tables
    from laegd.evaluation.results import digest_of, surroundings
    from laegd.evaluation.sweep import make_cells, write_sweep

    join_cluster(cluster)
    settings = RunConfig(workers=workers)
    runs, folders = _joined(checkpoint), _joined(data)
    target = Target(out, (*runs, *folders), overwrite, cluster.stuck_after_s)
    test_sets = _open_test_sets(folders)
    free = _model_free(methods, sampling, limits)
    require_effects([model.name for model in free], True, sampling, limits, workers)
    reference = choose_reference(reference, [one.dataset for one in test_sets], [model.name for model in free])
    models = [*_load_models(runs, sampling, free), *free]
    subject = {
        "models": {model.name: model.settings for model in models},
        "data": {one.name: {"digest": one.dataset.digest, "files": one.dataset.files_digest} for one in test_sets},
        **surroundings(),
    }
    shards = sum(len(one.dataset.manifest.shards) for one in test_sets)
    identity = digest_of(subject, reference)
    if is_finished(target, identity):
        return
    with begun(target, subject, len(models) * shards) as work:
        rows = {
            (model.name, one.name): _run(model.solver, one.dataset, work, model.name, settings)
            for model in models
            for one in test_sets
        }
        cells = make_cells(models, test_sets, rows, reference)
        work.finish(lambda: write_sweep(out, models, test_sets, cells, identity))
    for table in sweep_tables(cells, f"mean cost / {reference} \u00b1 standard error"):
        show(table)
    for line in sweep_legend(cells):
        say(line)
    _say_devices()
    for cell in cells[: len(test_sets)]:
        _say_what_has_no_reference(cell.summary.without_reference, reference, f" of {cell.test_set.name}")


def _joined(folders: _Folders) -> list[Path]:
    return [folder for group in folders for folder in group]


def _open_test_sets(folders: Sequence[Path]) -> "list[TestSet]":
    from laegd.evaluation.sweep import TestSet, require_distinct

    if not folders:
        raise ValueError("--data: Expected at least one data set, got none. Make one with `laegd generate`.")
    test_sets = [TestSet.open(folder) for folder in folders]
    require_distinct("--data", zip((one.name for one in test_sets), folders, strict=True))
    return test_sets


def _model_free(methods: str | None, sampling: Sampling, limits: ProofLimits) -> "list[Model]":
    from laegd.evaluation.sweep import Model

    names = [] if methods is None else split_names(methods)
    for name in names:
        if not is_model_free(name):
            free = ", ".join((*filter(is_model_free, METHODS), "exact@SECONDS"))
            raise ValueError(f"--methods: Expected any of {free}, got {name}. Name a network's run in --checkpoint.")
    solvers = [make_model_free(name, sampling.seed, limits) for name in names]
    return [Model(solver.name, solver, settings_of(solver)) for solver in solvers]


def _load_models(runs: Sequence[Path], sampling: Sampling, others: "Sequence[Model]") -> "list[Model]":
    from laegd.evaluation.sweep import Model, data_name, require_distinct

    if not runs:
        raise ValueError("--checkpoint: Expected at least one run folder, got none. Train one with `laegd train`.")
    named = [(run.stem if run.is_file() else Path(os.path.realpath(run)).name, run) for run in runs]
    require_distinct("--checkpoint", [*((one.name, "--methods") for one in others), *named])
    models = []
    for name, run in named:
        network = load_network(run, sampling)
        assert network.loaded is not None
        recipes = network.loaded.config.data.train
        trained_on = tuple(dict.fromkeys(data_name(recipe.scale, recipe.scenario) for recipe in recipes))
        models.append(Model(name, network, settings_of(network), trained_on, network.loaded.step))
    return models


def _run(solver: "Solver", dataset: "Dataset", work: Work, name: str, settings: "RunConfig") -> "Rows":
    from dataclasses import replace

    from laegd.evaluation.benchmark import run

    if not is_model_free(solver.name):
        settings = replace(settings, workers=1)
    with progress_bar(name if name == solver.name else f"{name} {dataset.manifest.scale}") as bar:
        return run(solver, dataset, lambda done, total: bar(done, total, ""), work.journal, name, settings, work.beat)


def _say_devices() -> None:
    from laegd.training.devices import devices_in_use

    say(f"networks computed on {devices_in_use()}")


def _say_what_has_no_reference(count: int, reference: str, where: str) -> None:
    if count:
        say(f"{count} instances{where} without a plan of {reference} have no ratio; they count as not accurate")
