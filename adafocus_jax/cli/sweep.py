"""``adafocus sweep``: many runs of one config, scripted, shared by any number of launchers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from adafocus_jax.errors import UserError
from adafocus_jax.sweep.search import SAMPLERS

_DESCRIPTION = """\
Trains one config with many settings. What to try is Python: functions sweep_NAME in the config file, or in FILE, that
yield dictionaries of config keys; several names are multiplied. Or a search space: a file with suggest(trial), to which
Optuna proposes values.

Every trial has a folder in DIR, and the folders are all there is: start the same command again, also on other hosts
that share DIR, and it takes up whatever is not finished; a killed trial resumes from its last checkpoint. A trial that
fails is recorded with its reason. --prune stops trials that fall behind, at equal evaluations (needs train.eval_every).

Words after -- come in front of each trial's train command: `-- launch local --processes 2`.
adafocus sweep report DIR prints the table, and writes report.html and trials.csv, also while the sweep runs."""

_EPILOG = """\
examples:
  adafocus sweep sweeps/lr --config configs/custom.py --data records/ --sweep configs/sweeps/learning_rate.py:lr,seed
  adafocus sweep sweeps/lr --config configs/custom.py --sweep configs/sweeps/learning_rate.py:lr --dry-run
  adafocus sweep sweeps/find --config configs/custom.py --data records/ --space configs/sweeps/patch_budget.py \\
      --trials 40 --objective top1,gflops --sampler nsga2
  adafocus sweep report sweeps/lr"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("words", nargs="+", metavar="[report] DIR", help="folder of the sweep; `report DIR`: its page")
    add(
        "--config", metavar="FILE[:VARIANT]", help="base config; --config.KEY=VALUE changes it for all trials"
    )
    add("--data", metavar="DIR", help="short for --config.data.dir=DIR")
    add(
        "--sweep",
        metavar="[FILE:]NAME,...",
        help="product of functions sweep_NAME of FILE or of the config file",
    )
    add(
        "--space",
        metavar="FILE",
        help="search space: its suggest(trial[, config]) returns config keys and values",
    )
    add("--trials", type=int, metavar="N", help="trials of a search, all launchers together")
    add("--objective", default="top1", metavar="NAME,...", help="top1, top5, mAP, each also at a budget of early exit "
        "(top1@0.5), gflops, seconds (default %(default)s)")  # fmt: skip
    add("--sampler", choices=SAMPLERS, default="tpe", help="of a search (default %(default)s)")
    add("--seed", type=int, default=0, help="of the sampler (default %(default)s)")
    add("--prune", choices=("asha", "median"), help="stop trials that fall behind")
    add("--jobs", type=int, default=1, help="processes at a time, with cores or devices of their own; 0: one trial "
        "after the other in this process (default %(default)s)")  # fmt: skip
    add("--retry-failed", action="store_true", help="forget the results of failed trials, and run them again")
    add("--dry-run", action="store_true", help="list the trials, what differs, what they cost; run nothing")
    add("--trial", type=int, help=argparse.SUPPRESS)
    add("--observed", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the sweep, or one trial of it, or reports on it."""
    from adafocus_jax.cli.main import run_command
    from adafocus_jax.sweep.folder import SweepFolder

    if args.words[0] == "report" and len(args.words) == 2:
        return _report(SweepFolder(args.words[1]))
    if len(args.words) > 1:
        raise UserError(
            f"one folder at a time, not {' '.join(args.words)}: adafocus sweep DIR, or sweep report DIR"
        )
    sweep = SweepFolder(args.words[0])
    if args.trial is not None:
        from adafocus_jax.sweep.trial import run_trial

        token, _, beat = (args.observed or "").partition(":")
        return {"status": run_trial(sweep, args.trial, run_command, (token, int(beat)) if token else None)}
    from adafocus_jax.sweep.start import Plan, dry_run, start

    plan = Plan(
        config=args.config or "",
        settings=args.settings + ([f"--config.data.dir={Path(args.data).absolute()}"] if args.data else []),
        sweep=args.sweep or "",
        space=args.space or "",
        trials=args.trials,
        objectives=args.objective,
        sampler=args.sampler,
        seed=args.seed,
        prune=args.prune or "",
        launch=args.after,
    )
    if args.dry_run:
        return dry_run(plan, print)
    in_process = run_command if args.jobs == 0 else None
    finished = start(sweep, plan, jobs=args.jobs, run=in_process, retry_failed=args.retry_failed)
    if finished.signal is not None:
        raise SystemExit(128 + finished.signal)
    figures = _report(sweep)
    return {**figures, "status": 0 if finished.states.get("done") else 1}


def _report(sweep: Any) -> dict[str, Any]:
    from adafocus_jax.sweep.start import report

    page, csv, table, figures = report(sweep)
    Console().print(table)
    Console().print(f"written to {page} and {csv}", highlight=False, soft_wrap=True, markup=False)
    return figures
