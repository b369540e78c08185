"""From the words of a command to a sweep that runs: its trials checked, made, launched, reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from adafocus_jax.config import for_classes, make_model
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost
from adafocus_jax.io import write_text
from adafocus_jax.sweep.folder import SweepFolder
from adafocus_jax.sweep.launcher import Finished, launch
from adafocus_jax.sweep.objectives import parse_objectives
from adafocus_jax.sweep.overrides import Overrides, describe
from adafocus_jax.sweep.report import sweep_report
from adafocus_jax.sweep.search import ask
from adafocus_jax.sweep.space import base_config, check_trials, load_function, read_sweep
from adafocus_jax.sweep.table import rows, terminal_table, write_csv
from adafocus_jax.sweep.trial import Run
from adafocus_jax.visualize.report import write_report

log = logging.getLogger(__name__)

_CLASSES = 200  # where neither config nor data say: those of ActivityNet


@dataclass(frozen=True)
class Plan:
    """A sweep as it is asked for: either ``sweep`` or ``space`` with a number of ``trials``.

    Raises:
      UserError: neither or both, no config, or what does not fit together.
    """

    config: str
    settings: list[str]
    """Flags ``--config.KEY=VALUE`` for all trials."""
    sweep: str = ""
    space: str = ""
    trials: int | None = None
    objectives: str = "top1"
    sampler: str = "tpe"
    seed: int = 0
    prune: str = ""
    launch: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parse_objectives(self.objectives)
        if not self.config:
            raise UserError(f"config={self.config!r} is not valid: a sweep needs its base config")
        if bool(self.sweep) == bool(self.space):
            raise UserError(f"sweep={self.sweep!r} and space={self.space!r}: give one, not both or neither")
        if self.launch and self.launch[:2] != ["launch", "local"]:
            # The others return before the run is over, or its workdir is not here.
            raise UserError(
                f"{' '.join(self.launch[:2])!r} cannot start the trials of a sweep: give launch local; elsewhere "
                "launch the sweep itself, as in adafocus launch slurm -- sweep"
            )
        if self.space and (self.trials is None or self.trials < 1):
            raise UserError(
                f"trials={self.trials} is not valid: a search needs a number of trials, 1 or more"
            )

    def spec(self) -> dict[str, Any]:
        """What ``sweep.json`` holds; the config's path absolute, so that any folder may be the current one."""
        path, colon, variant = self.config.partition(":")
        return {
            "config": str(Path(path).absolute()) + colon + variant,
            "settings": self.settings,
            "sweep": self.sweep,
            "space": self.space,
            "objectives": [one.name for one in parse_objectives(self.objectives)],
            "launch": self.launch,
        }


def start(
    sweep: SweepFolder, plan: Plan, *, jobs: int = 1, run: Run | None = None, retry_failed: bool = False
) -> Finished:
    """Makes the sweep's folder, or takes up what is there, and runs trials until all have a result.

    Raises:
      UserError: a trial's settings are not valid, the folder holds a sweep of another config, or all trials fail alike.
    """
    # Everything is checked before the folder is made.
    listed = read_sweep(plan.sweep, plan.config) if plan.sweep else []
    complete = check_trials(plan.config, plan.settings, listed)
    if plan.prune and not all(settings["train"]["eval_every"] for settings in complete):
        raise UserError(f"prune={plan.prune} compares evaluations during training: set train.eval_every")
    suggest = load_function(plan.space, "suggest") if plan.space else None
    base = base_config(suggest, plan.config, 1) if suggest else []
    for difference in sweep.create(plan.spec()):
        log.warning(
            "%s was begun with other words: %s; trials that exist keep their settings", sweep.path, difference
        )
    if retry_failed:
        for trial in sweep.trials():
            if trial.state == "failed":
                (trial.folder / "result.json").unlink(missing_ok=True)
    if plan.sweep:
        _add_missing(sweep, listed)
    objectives = parse_objectives(plan.objectives)

    def propose() -> int | None:
        with sweep.lock():
            if suggest is None or len(sweep.trials()) >= (plan.trials or 0):
                return None
            overrides, drawn = ask(
                sweep, lambda trial: suggest(trial, *base), objectives, sampler=plan.sampler, seed=plan.seed
            )
            check_trials(plan.config, plan.settings, [overrides])
            return sweep.add(overrides, drawn)

    return launch(
        sweep, objectives, run=run, jobs=jobs or 1, ask=propose if suggest else None, prune=plan.prune or None
    )


def _add_missing(sweep: SweepFolder, listed: list[Overrides]) -> None:
    """Makes the trials that are not there yet; says where the list has changed since."""
    with sweep.lock():
        known = [trial.overrides for trial in sweep.trials()]
        new = [overrides for overrides in listed if overrides not in known]
        if known and (new or len(known) > len(listed)):
            gone = sum(overrides not in listed for overrides in known)
            log.warning(
                "the sweep has changed: %d trials are new, %d are no longer listed and stay", len(new), gone
            )
        for overrides in new:
            sweep.add(overrides)


def dry_run(plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Lists the trials with what differs and their cost; of a search, what its base costs."""
    listed = read_sweep(plan.sweep, plan.config) if plan.sweep else [{}]
    complete = check_trials(plan.config, plan.settings, listed)
    costs: dict[str, float] = {}
    found = []
    for number, (overrides, settings) in enumerate(zip(listed, complete, strict=True)):
        key = repr(settings["model"])
        if key not in costs:
            classes = [f"class {k}" for k in range(settings["model"]["num_classes"] or _CLASSES)]
            costs[key] = float(model_cost(make_model(for_classes(settings, classes))).exit_gflops[-1])
        found.append({"trial": number, "overrides": overrides, "gflops": costs[key]})
        show(f"{number:4d}  {costs[key]:8.4g} GFLOPs a video  {describe(overrides)}")
    return {"trials": found}


def report(sweep: SweepFolder) -> tuple[Path, Path, Table, dict[str, Any]]:
    """Writes ``report.html`` and ``trials.csv`` into the sweep's folder.

    Returns:
      Both paths, the table for a terminal, and its figures.
    """
    objectives = parse_objectives(",".join(sweep.spec()["objectives"]))
    trials = sweep.trials()
    best, page, csv = rows(trials, objectives), sweep.path / "report.html", sweep.path / "trials.csv"
    write_report(page, sweep_report(sweep, objectives))
    write_text(csv, write_csv(trials, objectives))
    figures = [
        {"settings": row.settings, "objectives": {name: value[0] for name, value in row.values.items()}}
        for row in best
    ]
    return page, csv, terminal_table(best), {"trials": len(trials), "rows": figures}
