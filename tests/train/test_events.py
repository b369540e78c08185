import subprocess
import sys
import threading
import time

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from adafocus_jax.train import event_file, events
from adafocus_jax.train.events import EventWriter


def values(number: float) -> list[bytes]:
    return [event_file.scalar("loss", number)]


def test_bytes_are_those_of_protocol_buffers_and_of_another_writer(tmp_path):
    image = Summary.Image(height=300, width=2, colorspace=3, encoded_image_string=b"\xff\xd8" * 100)
    shown = [Summary.Value(tag="a/ü", simple_value=1e39), Summary.Value(tag="b", image=image)]
    expected = [
        Event(wall_time=1.5, file_version="brain.Event:2"),
        Event(wall_time=1.5, step=2**40, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=1.5, step=300, summary=Summary(value=shown)),
    ]
    picture = event_file.picture("b", (300, 2, 3), image.encoded_image_string)
    written = [
        event_file.version_event(1.5),
        event_file.start_event(1.5, 2**40),
        event_file.summary_event(1.5, 300, [event_file.scalar("a/ü", 1e39), picture]),
    ]
    assert written == [event.SerializeToString() for event in expected]
    writer = RecordWriter(str(tmp_path / "events"))
    for event in written:
        writer.write(event)
    writer.close()
    assert b"".join(map(event_file.record, written)) == (tmp_path / "events").read_bytes()


def test_training_does_not_import_pytorch():
    command = "import sys, adafocus_jax.train; print(sorted({'torch', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_storage_that_fails_is_told_once_and_written_again_once_it_does_not(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(events, "RETRY_SEC", 0.0)
    (tmp_path / "board").write_text("a file where the folder should be")
    writer = EventWriter(tmp_path / "board", 0)
    for step in range(3):
        writer.add(step, values(step))
        time.sleep(0.02)
    (tmp_path / "board").unlink()
    deadline = time.monotonic() + 20
    while "written again" not in caplog.text and time.monotonic() < deadline:
        writer.add(7, values(0.5))
        time.sleep(0.02)
    writer.close()
    assert ["cannot be written" in message for message in caplog.messages] == [True, False]
    (file,) = (tmp_path / "board").iterdir()
    assert b"loss" in file.read_bytes()


def test_storage_that_does_not_answer_holds_up_nothing(tmp_path, caplog, monkeypatch):
    answers = threading.Event()

    def stall(event):
        answers.wait()
        return event_file.record(event)

    monkeypatch.setattr(events, "record", stall)
    monkeypatch.setattr(events, "CLOSE_SEC", 0.1)
    writer, began = EventWriter(tmp_path, 0), time.monotonic()
    for step in range(2 * events.MOST_WAITING):
        writer.add(step, values(step))
    writer.close()
    assert time.monotonic() - began < 5
    assert ["too slowly" in caplog.messages[0], "incomplete" in caplog.messages[1]] == [True, True]
    answers.set()
    writer._thread.join(10)
    assert not writer._thread.is_alive()


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    assert not [
        thread for thread in threading.enumerate() if getattr(thread, "_target", None) is EventWriter._run
    ]
