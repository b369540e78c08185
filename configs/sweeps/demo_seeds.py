"""The demo over seeds, each with videos of its own: what its glance and its policies know, over steps, in one picture.

    python configs/sweeps/demo_seeds.py make seeds/                    # videos and records of seeds 0–7
    adafocus sweep sweeps/seeds --config configs/sweeps/demo_seeds.py --sweep seed --jobs 2
    python configs/sweeps/demo_seeds.py draw sweeps/seeds/ seeds.png

Stay in one folder, for trials look for seeds/ there. With flags such as --config.loss.weights.kl=0, another recipe.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from adafocus_jax.cli.demo import CONFIG, make_records
from adafocus_jax.config.read import read_config
from adafocus_jax.data.records.reader import open_records
from adafocus_jax.demo.outcome import score_predictions
from adafocus_jax.demo.score import frames_by_colour
from adafocus_jax.evaluate.evaluators import EVALUATORS, METRICS
from adafocus_jax.evaluate.predict import Predictions
from adafocus_jax.sweep.folder import SweepFolder
from adafocus_jax.sweep.trial import evaluations
from adafocus_jax.visualize.curves import training_curves
from adafocus_jax.visualize.files import write_png

FOLDER, SEEDS = Path("seeds"), range(8)
PANELS = {
    "glance_top1": "glance top-1 (%)",
    "weight_entropy": "temporal entropy (0–1)",
    "frames": "frames with figure (%)",
    "frames_worst_colour": "of the worst colour (%)",
    "covered": "figure covered (%)",
    "top1": "top-1 (%)",
}


def get_config() -> ConfigDict:
    config = read_config(str(CONFIG)).unlock()
    for seed in SEEDS:
        # Not register_evaluator, which refuses a second reading of this file.
        EVALUATORS[f"demo_seed{seed}"] = partial(looked, FOLDER / str(seed), config.model.num_candidates)
    config.train.eval_every = 50
    return config


def sweep_seed() -> Iterator[dict[str, object]]:
    for seed in SEEDS:
        evaluators = ("classification", f"demo_seed{seed}")
        yield {"seed": seed, "data.dir": str(FOLDER / str(seed) / "records"), "train.evaluators": evaluators}


def looked(folder: Path, num_candidates: int, predictions: Predictions) -> Iterator[tuple[str, float]]:
    """Where, when, and how surely; the truth is in ``folder``."""
    truth = json.loads((folder / "videos" / "truth.json").read_text())
    source = open_records(folder / "records", "val")
    names, score = score_predictions(predictions, source, truth, num_candidates)
    weights = predictions.frame_weights
    num_glance = weights.shape[1]
    entropy = -(weights * np.log(weights.clip(1e-9))).sum(axis=1) / np.log(num_glance)
    yield "glance_top1", METRICS["top1"](predictions.exit_logits[:, num_glance - 1], predictions.labels)
    yield "weight_entropy", float(entropy.mean())
    yield "frames", 100 * score.frames_with_figure
    yield "frames_worst_colour", 100 * min(frames_by_colour(names, score).values())
    yield "covered", 100 * score.learned.figure_covered


def draw(sweep: Path, out: Path) -> None:
    trials = SweepFolder(sweep).trials()
    names = [f"seed {trial.overrides['seed']}" for trial in trials]
    pictures = []
    for metric, label in PANELS.items():
        rows = [
            {"step": step, name: value}
            for trial, name in zip(trials, names, strict=True)
            for step, value in evaluations(trial, metric)
        ]
        pictures.append(training_curves(rows, {label: names}))
    write_png(out, np.concatenate(pictures))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]:
            for seed in SEEDS:
                made = Path(folder) / str(seed)
                make_records(made / "videos", made / "records", seed=seed)
        case ["draw", sweep, out]:
            draw(Path(sweep), Path(out))
        case _:
            sys.exit(__doc__)
