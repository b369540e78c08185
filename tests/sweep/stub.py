"""A launcher whose trials count to 20 in files instead of training: ``stub.py SWEEP [pause=SEC] [full=TRIAL]``."""

import json
import sys
import time
from pathlib import Path

from adafocus_jax.sweep import SweepFolder, launch, parse_objectives

STEPS = 20


def stub(words, pause=0.0, full=None):
    """Counts on from where it stands; every step is a line of its own, so that one that is done twice shows."""
    words = list(words)
    workdir = Path(words[words.index("--workdir") + 1])
    workdir.mkdir(parents=True, exist_ok=True)
    settings = dict(
        word.removeprefix("--config.").split("=", 1) for word in words if word.startswith("--config.")
    )
    rate = float(settings["optimizer.lr"])
    done = len((workdir / "steps").read_text().splitlines()) if (workdir / "steps").exists() else 0
    for step in range(done, STEPS):
        if full == int(workdir.parent.name) and step == 5:
            raise OSError(28, "No space left on device")
        with open(workdir / "steps", "a") as file:
            file.write(f"{step}\n")
        (workdir / "checkpoints" / str(step + 1)).mkdir(parents=True)
        with open(workdir / "metrics.jsonl", "a") as file:
            file.write(
                json.dumps({"step": step + 1, "split": "eval", "top1": 100 - abs(rate - 0.3) * 10}) + "\n"
            )
        time.sleep(pause)
    return {"step": STEPS, "top1": 100 - abs(rate - 0.3) * 10}


if __name__ == "__main__":
    options = dict(word.split("=") for word in sys.argv[2:])
    pause, full = float(options.get("pause", 0)), int(options.get("full", -1))
    print("ready", flush=True)
    found = launch(
        SweepFolder(sys.argv[1]),
        parse_objectives("top1"),
        run=lambda words: stub(words, pause, full),
        poll_sec=0.02,
    )
    print(json.dumps(found.states), flush=True)
