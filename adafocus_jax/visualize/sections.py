"""The sections of a report, each from the figures it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from adafocus_jax.flops import ModelCost
from adafocus_jax.types import VideoPrediction
from adafocus_jax.visualize.curves import (
    Series,
    accuracy_cost,
    class_scores,
    cost_unit,
    temporal_weights,
    training_curves,
)
from adafocus_jax.visualize.frames import contact_sheet
from adafocus_jax.visualize.report import Picture, Section, Table
from adafocus_jax.visualize.run import Run
from adafocus_jax.visualize.style import shorten

Panels = dict[str, tuple[str, ...]]
"""Axis to the metrics of the log that it shows; those of evaluations begin with ``eval/``."""
LEARNING: Panels = {
    "loss (nats)": ("loss/total",),
    "loss terms (nats)": (
        "loss/exits",
        "loss/glance",
        "loss/focus",
        "loss/temporal",
        "loss/spatial",
        "loss/norm",
        "loss/kl",
    ),
    "accuracy (%)": ("top1", "eval/top1", "eval/mAP"),
}
POLICIES: Panels = {
    "share": ("policy/weight_entropy", "policy/saturated_frac"),
    "box size (px)": ("policy/box_height_px", "policy/box_width_px"),
    "box movement (px)": ("policy/box_step_px",),
}
PACE: Panels = {
    "learning rate": ("learning_rate",),
    "gradient norm": ("grad_norm",),
    "videos per second": ("examples_per_sec",),
    "share of time waiting for data": ("data_wait_frac",),
}
MOST_ROWS = 10


def training_section(rows: Sequence[Mapping[str, Any]], policies: bool) -> Section:
    """Curves of the metrics in ``rows``; with ``policies`` also of the policies' statistics."""
    if not rows:
        return Section(
            "Training",
            ("No step is logged: this is a converted checkpoint, or a run that has just started.",),
        )
    named = [_named(row) for row in rows]
    pictures = [
        (LEARNING, "Loss, its terms, and accuracy; eval/ marks the held-out split.", "Training curves")
    ]
    if policies:
        text = "Policy statistics: a weight_entropy of 1 is uniform over time, 0 a single frame."
        pictures.append((POLICIES, text, "Policy statistics"))
    caption = "Learning rate, gradient norm, throughput, and whatever else the run logs."
    pictures.append((PACE | _others(named), caption, "Throughput and learning rate"))
    drawn = [(_present(panels, named), caption, alt) for panels, caption, alt in pictures]
    return Section(
        "Training",
        content=tuple(
            Picture(training_curves(named, panels), caption, alt) for panels, caption, alt in drawn if panels
        ),
    )


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "" if row["split"] == "train" else f"{row['split']}/"
    own = {f"{prefix}{name}": value for name, value in row.items() if name not in ("step", "split")}
    return {"step": row["step"], **own}


def _others(rows: Sequence[Mapping[str, Any]]) -> Panels:
    """A panel for every metric without a prefix that is in no other panel."""
    drawn = {"step"}.union(*LEARNING.values(), *PACE.values())
    others = {name: (name,) for row in rows for name in row if name not in drawn and "/" not in name}
    return dict(sorted(others.items()))


def _present(panels: Panels, rows: Sequence[Mapping[str, Any]]) -> Panels:
    """The panels without metrics that no row holds and loss terms that are always 0."""
    there = {name for row in rows for name, value in row.items() if value or not name.startswith("loss/")}
    kept = {label: tuple(name for name in names if name in there) for label, names in panels.items()}
    return {label: names for label, names in kept.items() if names}


def checkpoints_section(run: Run) -> Section:
    """Evaluations during training, and the checkpoints kept."""
    found = [row for row in run.rows if row["split"] == "eval"]
    kept = [(str(step), _kept_as(run, step), _measured(metrics)) for step, metrics in run.checkpoints.items()]
    content = [_evaluations(found)] if found else []
    if kept:
        content.append(Table("Checkpoints", ("step", "kept as", "evaluation"), tuple(kept)))
    text = () if kept else ("No checkpoint has been saved yet.",)
    return Section("Evaluations and checkpoints", text, tuple(content))


def _evaluations(found: Sequence[Mapping[str, Any]]) -> Table:
    names = [name for name in found[-1] if name not in ("step", "split")]
    last = f", the last {MOST_ROWS} of {len(found)}" if len(found) > MOST_ROWS else ""
    rows = [(str(row["step"]), *(_number(row.get(name)) for name in names)) for row in found[-MOST_ROWS:]]
    return Table(f"Evaluations on the held-out split{last}", ("step", *names), tuple(rows))


def _kept_as(run: Run, step: int) -> str:
    roles = {"best": run.best, "latest": max(run.checkpoints)}
    return ", ".join(role for role, at in roles.items() if at == step) or "fallback"


def _measured(metrics: Mapping[str, float] | None) -> str:
    if metrics is None:
        return "damaged"
    return (
        ", ".join(f"{name} {_number(value)}" for name, value in metrics.items() if name != "score") or "none"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def video_section(title: str, shown: VideoPrediction, *text: str) -> Section:
    """Where and when the model looks in a single video, and what it predicts."""
    sheet = Picture(
        contact_sheet(shown),
        "Candidate frames, the chosen ones, and the patches cut from them.",
        "Frames with boxes",
        photo=True,
    )
    weights = Picture(
        temporal_weights(shown),
        "The temporal policy: where in the video the focus frames are drawn.",
        "Weights over time",
    )
    scores = Picture(
        class_scores(shown),
        "Class scores exit by exit, from the first glance frame to the last patch.",
        "Scores per exit",
    )
    return Section(title, text, (sheet, weights, scores))


def controls_table(figures: Mapping[str, Any]) -> Table:
    """The learned policies against their controls, from ``adafocus evaluate --controls``."""
    return Table(
        "Same networks, same number and size of patches, with one or both policies replaced",
        ("patches", "frames", "top-1 %", "mAP %"),
        tuple(
            (row["spatial"], row["temporal"], f"{row['top1']:.1f}", f"{row['mAP']:.1f}")
            for row in figures["controls"]
        ),
    )


def exits_section(figures: Mapping[str, Any], model: Mapping[str, Any]) -> Section:
    """Cost and accuracy of every exit, and the early-exit curve if ``adafocus evaluate`` drew one."""
    metric = next(iter(figures["exits"])).split("_", 1)[1]
    unit, costs = cost_unit(figures["exit_gflops"])
    table = Table(
        f"{metric} of every exit, on the {figures['split']} split",
        ("exit", unit, f"{metric} %"),
        tuple(
            (name, f"{cost:.3g}", f"{value:.1f}")
            for name, cost, value in zip(
                exit_names(model, len(costs)), costs, figures["exits"].values(), strict=True
            )
        ),
    )
    scores = ", ".join(f"{name} {figures[name]:.1f}%" for name in ("top1", "top5", "mAP"))
    text = (
        f"Checkpoint of step {figures['step']} on {figures['videos']} videos (crops of each: {figures['crops']}): "
        f"{scores}.",
    )
    if "early_exit" not in figures:
        return Section("Exits", text, (table,))
    curves = [Series(name, curve["gflops"], curve[metric]) for name, curve in figures["early_exit"].items()]
    picture = Picture(
        accuracy_cost(curves, f"{metric} (%)"),
        "Easy videos leave after the glance, hard ones look on. Thresholds are solved on another split.",
        "Quality against cost",
    )
    return Section("Early exit", text, (picture, table))


def exit_names(model: Mapping[str, Any], num_exits: int) -> list[str]:
    """What a video has seen at each exit of a model of these settings.

    >>> exit_names({"num_glance": 2, "num_focus": 1}, 3)
    ['glance frame 1', 'glance frame 2', 'patch 1']
    >>> exit_names({"num_glance": 8, "num_focus": 12}, 2)
    ['the glance', 'all']
    """
    if num_exits <= 2:
        return ["the glance", "all"][-num_exits:]
    glance = [f"glance frame {g + 1}" for g in range(model["num_glance"])]
    return [*glance, *(f"patch {f + 1}" for f in range(num_exits - len(glance)))]


def cost_section(cost: ModelCost) -> Section:
    """Multiply-adds by module."""
    total = cost.exits[-1]
    unit, costs = cost_unit([macs / 1e9 for macs in (*cost.parts.values(), total)])
    rows = zip([*cost.parts, "all"], costs, [*cost.parts.values(), total], strict=True)
    table = Table(
        "Multiply-adds of one video that reaches the last exit, counted from the modules",
        ("part", unit, "share %"),
        tuple(
            (name.replace("_", " "), f"{part:.3g}", f"{100 * macs / total:.1f}") for name, part, macs in rows
        ),
    )
    return Section("Cost", (f"The model has {cost.params / 1e6:.3g} M parameters.",), (table,))


def config_section(config: Mapping[str, Any]) -> Section:
    """Every setting of the run."""
    settings = {key: value for key, value in config.items() if key != "classes"}
    rows = sorted(flatten_dict(settings, sep=".").items())
    table = Table(
        "As saved beside the checkpoints", ("setting", "value"), tuple((k, str(v)) for k, v in rows)
    )
    classes = config["classes"]
    return Section(
        "Configuration", (f"{len(classes)} classes: {shorten(', '.join(classes), 400)}.",), (table,)
    )
