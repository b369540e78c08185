"""``adafocus plan``: a config file and the name of a TPU slice become what training on it would need."""

from __future__ import annotations

import argparse
from typing import Any

from adafocus_jax.cli.flags import defaults_of
from adafocus_jax.config import load_config
from adafocus_jax.errors import UserError
from adafocus_jax.plan import CHIPS, open_topology, plan_training
from adafocus_jax.plan.duration import MACHINES, duration_rows, markdown, planned_work
from adafocus_jax.plan.table import print_plan

_LIMITS = ", ".join(f"{chip.hbm_gib:g} on {name}" for name, chip in CHIPS.items())
_DESCRIPTION = f"""\
Compiles the training and evaluation steps of a config ahead of time for a slice of TPUs, on a machine without TPUs
(needs the extra `tpu`), and reports what each chip needs: memory by kind, the largest batch that fits, collectives,
large gathers, and a roofline estimate of the step time. Compiling a full-size step takes one to several CPU minutes.

A slice is a generation and its chips along each dimension: two dimensions for v5e and v6e, three for v4 and v5p.
"peak memory" has to stay below the GiB that libtpu leaves to a program: {_LIMITS}.
Where it does not, use more chips, --config.model.dtype=bfloat16 (about half the memory), --config.train.accumulate=2,
--config.model.remat='.*', or a smaller batch. The largest batch that fits may be slower per video: near the limit,
the compiler saves memory by rematerialisation. "pixel gathers" should be 0: they are slow on TPUs.

Without --topology it compiles nothing, and estimates hours of training per data set and machine from the multiply-adds
of the training step, with the cores and the MB/s that feed it: the share of peak is an assumption (--peak-share).

With train.parallel=pmap, pmap's own program is compiled (JAX builds it on jit and shard_map).
Exits with status 1 if a step does not fit."""
_EXAMPLES = """\
examples:
  adafocus plan --config configs/activitynet.py --topology v5e:2x2
  adafocus plan --config configs/custom.py --topology v5e:4x4 --config.model.num_classes=200 --json plan.json
  adafocus plan --config configs/custom.py:tiny --topology v4:2x2x1 --config.model.num_classes=10 --max-compiles 0
  adafocus plan --config configs/activitynet.py configs/jester.py --machines v5e-64 --price-per-hour v5e-64=77"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Fills in the command's parser."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    add = parser.add_argument
    add(
        "--config",
        required=True,
        nargs="+",
        metavar="FILE[:VARIANT]",
        help="config file, as for adafocus train",
    )
    add("--topology", metavar="NAME", help="such as v5e:4x4, v6e:2x2, v4:2x2x4, v5p:2x2x1")
    add(
        "--max-compiles",
        type=int,
        default=defaults_of(plan_training)["max_compiles"],
        metavar="N",
        help="how often to compile in search of the largest batch; 0: no search (default %(default)s)",
    )
    add(
        "--thorough",
        action="store_true",
        help="optimise as fully as training would: four times slower, memory hardly differs",
    )
    add(
        "--core-rate",
        type=float,
        metavar="R",
        help="videos per second that one CPU core decodes; adds how many cores feed the slice",
    )
    hours = parser.add_argument_group("hours of training (without --topology)").add_argument
    hours("--machines", nargs="+", metavar="NAME", default=MACHINES, help="such as v4-8 v5e-64 H100x8")
    hours("--peak-share", type=float, metavar="SHARE", help="assumed (default: by model)")
    hours("--core-frames", type=float, default=1050, metavar="R", help="frames per second that one core decodes and "
        "cuts; adafocus benchmark data measures it (default %(default)s)")  # fmt: skip
    hours("--frame-kb", type=float, default=25, metavar="KB", help="of a stored frame (default %(default)s)")
    hours(
        "--price-per-hour",
        nargs="+",
        default=[],
        type=_price,
        metavar="NAME=PRICE",
        help="adds what a run costs",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the plan; returns its figures."""
    if not args.topology:
        return _hours(args)
    if len(args.config) > 1:
        raise UserError(f"config={' '.join(args.config)}: give one for a slice")
    topology = open_topology(args.topology)
    settings = load_config(args.config[0], args.settings)
    figures = plan_training(
        settings,
        topology,
        max_compiles=args.max_compiles,
        thorough=args.thorough,
        core_rate=args.core_rate,
    )
    print_plan(figures)
    return figures


def _hours(args: argparse.Namespace) -> dict[str, Any]:
    works = planned_work(args.config, args.settings, peak_share=args.peak_share)
    options = {"core_frames": args.core_frames, "frame_kb": args.frame_kb}
    rows = duration_rows(works, args.machines, dict(args.price_per_hour), **options)
    print(markdown(rows))
    return {**options, "rows": rows}


def _price(text: str) -> tuple[str, float]:
    name, _, price = text.partition("=")
    return name, float(price)
