import json
import re

import numpy as np
import pytest

from adafocus_jax.sweep import launch, parse_objectives
from adafocus_jax.sweep.objectives import at_budget
from adafocus_jax.sweep.start import report
from adafocus_jax.sweep.table import importance, rows, write_csv

TOP1 = parse_objectives("top1")
CSV = """\
trial,state,optimizer.lr,seed,top1,seconds,reason
0,done,0.1,0,80.0,10.0,
1,done,0.1,1,82.0,12.0,
2,failed,0.2,0,,1.0,out of memory
3,done,0.2,1,90.0,10.5,
4,waiting,0.4,0,,,
"""


@pytest.fixture
def sweep(make_sweep):
    made = make_sweep(
        *({"optimizer.lr": lr, "seed": seed} for lr in (0.1, 0.2) for seed in (0, 1)),
        {"optimizer.lr": 0.4, "seed": 0},
    )
    results = [("done", 80.0, 10.0), ("done", 82.0, 12.0), ("failed", None, 1.0), ("done", 90.0, 10.5)]
    for number, (state, top1, seconds) in enumerate(results):
        result = {"state": state, "objectives": {} if top1 is None else {"top1": top1}, "seconds": seconds}
        if top1 is None:
            result["reason"] = "out of memory"
        (made.trial(number).folder / "result.json").write_text(json.dumps(result))
    return made


def test_the_csv_is_golden(sweep):
    assert write_csv(sweep.trials(), TOP1) == CSV


def test_rows_gather_seeds_and_the_best_comes_first(sweep):
    found = rows(sweep.trials(), TOP1)
    assert [row.settings for row in found] == [
        {"optimizer.lr": 0.2},
        {"optimizer.lr": 0.1},
        {"optimizer.lr": 0.4},
    ]
    assert [row.text("top1") for row in found] == ["90", "81 ± 1.41 (2)", ""]
    assert [row.state for row in found] == ["1 of 2 done", "done", "waiting"]


def test_importance_is_the_correlation_ratio(make_sweep):
    sweep = make_sweep(*({"a": a, "b": b} for a in (0, 1) for b in (0, 1)))
    for trial in sweep.trials():
        top1 = 10.0 * trial.overrides["a"] + trial.overrides["b"]
        (trial.folder / "result.json").write_text(json.dumps({"state": "done", "objectives": {"top1": top1}}))
    shares = importance(sweep.trials(), TOP1[0])
    assert list(shares) == ["a", "b"]
    assert shares["a"] == pytest.approx(100 / 101)
    assert shares["b"] == pytest.approx(1 / 101)


def test_the_page_holds_every_part_also_while_the_sweep_runs(make_sweep, stub):
    sweep = make_sweep(*({"optimizer.lr": lr / 10} for lr in range(4)), objectives=["top1", "seconds"])
    launch(sweep, parse_objectives("top1,seconds"), run=stub)
    sweep.claim(sweep.add({"optimizer.lr": 0.9}), None)
    page, csv, table, figures = report(sweep)
    html = page.read_text()
    assert [column.header for column in table.columns] == [
        "trial",
        "optimizer.lr",
        "top1",
        "seconds",
        "state",
    ]
    assert figures["rows"][0]["settings"] == {"optimizer.lr": 0.3}
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "Trials, the best first",
        "Settings against the objective",
        "Importance",
        "top1 against seconds",
        "Learning curves",
    ]
    assert html.count("<img") == 4
    assert "4 of 5" in html
    assert csv.read_text().count("\n") == 6


def test_an_empty_sweep_has_a_page(make_sweep):
    page, *_ = report(make_sweep())
    assert "0 of 0" in page.read_text()


def test_accuracy_at_a_budget_is_the_best_that_is_affordable():
    curve = {"gflops": [1.0, 2.0, 4.0], "top1": [50.0, 70.0, 60.0]}
    assert at_budget(curve, "top1", 0.5, 4.0) == 70
    assert at_budget(curve, "top1", 1.0, 4.0) == 70
    assert np.isnan(at_budget(curve, "top1", 0.2, 4.0))
