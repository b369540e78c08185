import threading
import time

import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.summary_pb2 import Summary

from adafocus_jax.train import events
from adafocus_jax.train.events import EventWriter


def values(number: float) -> list[Summary.Value]:
    return [Summary.Value(tag="loss", simple_value=number)]


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
    write = EventsWriter.write_event

    def stall(self, event):
        answers.wait()
        return write(self, event)

    monkeypatch.setattr(EventsWriter, "write_event", stall)
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
