import json
import re
import struct

import cv2
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

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


def test_a_line_that_is_no_row_is_dropped_with_a_warning(tmp_path, caplog):
    row = '{"step": 2, "split": "train"}'
    (tmp_path / "metrics.jsonl").write_bytes(
        row.encode() + b"\n\xff\xfe garbage\n[1]\n" + row.encode() + b"\n"
    )
    MetricWriter(tmp_path, 4).close()
    assert (tmp_path / "metrics.jsonl").read_text() == f"{row}\n{row}\n"
    assert [message.rpartition("jsonl: ")[2] for message in caplog.messages] == [
        f"line {number} is not a row of figures: dropped" for number in (2, 3)
    ]


def board_events(folder):
    """What TensorBoard reads: length, its checksum, the event, its checksum."""
    (file,) = folder.iterdir()
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length


def test_pictures_go_to_tensorboard_alone(tmp_path):
    image = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    writer = MetricWriter(tmp_path, 0)
    writer.images("eval", 7, {"a clip.mp4/frames": image})
    writer.close()
    shown = [(e.step, v) for e in board_events(tmp_path / "tensorboard") for v in e.summary.value]
    ((step, value),) = shown
    assert (step, value.tag) == (7, "eval/a clip.mp4/frames")
    assert (value.image.height, value.image.width) == (16, 24)
    decoded = cv2.imdecode(np.frombuffer(value.image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[..., ::-1], image, atol=4)
    assert not (tmp_path / "metrics.jsonl").exists()


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
        with view.doing("evaluating"):
            view.note("evaluated")
    assert caplog.messages == ["step 5/10  loss 1.5 (exits 1.5)  top-1 12%", "evaluated"]
    assert "training" not in capsys.readouterr().err  # no bar


def test_on_a_terminal_a_bar_shows_progress_pace_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressView(10, 16, 0) as view:
        view.step(5)
        values = {"loss/total": 1.5, "loss/exits": 1.5, "top1": 12.0}
        view.figures(5, {**values, "examples_per_sec": 0.01, "data_wait_frac": 0.25})
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).splitlines()
    assert any(line.startswith("step 5/10  loss 1.5 (exits 1.5)  top-1 12%  0.01 videos/s") for line in lines)
    assert lines[-1].startswith("training ")
    assert "5/10" in lines[-1]
    assert "data wait 25%  2:13:20 left" in lines[-1]
