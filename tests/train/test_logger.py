import json

import pytest

from adafocus_jax.train.logger import Meter, MetricWriter, ProgressView


def test_rows_are_appended_and_later_ones_dropped_on_resuming(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    for step in (2, 4, 6):
        writer.write("train", step, {"loss/total": 1 / step})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "sp')  # killed while it wrote
    writer = MetricWriter(tmp_path, 4)
    writer.write("eval", 5, {"top1": 50.0})
    writer.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(2, "train"), (4, "train"), (5, "eval")]


def test_meter_counts_from_its_restart(monkeypatch):
    clock = iter([0.0, 10.0, 11.0, 14.0, 20.0, 20.0, 21.0, 21.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter(batch_size=16, peak_step_sec=2.5)
    meter.restart()  # at 10
    with meter.waiting():  # 11 to 14
        pass
    meter.step()
    assert meter.read() == pytest.approx(
        {"examples_per_sec": 1.6, "data_wait_frac": 0.3, "flop_utilization": 0.25}
    )
    assert meter.read() == {}


def test_without_a_terminal_figures_come_as_lines(caplog, capsys):
    caplog.set_level("INFO")
    with ProgressView(10, 16, 0) as view:
        view.step(1)
        view.figures(5, {"loss/total": 1.5, "loss/exits": 1.5, "top1": 12.0})
        view.note("evaluated")
    assert caplog.messages == ["step 5/10  loss 1.5 (exits 1.5)  top-1 12%", "evaluated"]
    assert "training" not in capsys.readouterr().err  # no bar
