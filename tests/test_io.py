"""Files are replaced whole or not at all, and progress is told on a terminal and off it."""

import errno
import io as standard_io
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from adafocus_jax import io


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("path", ["gs://b/r", "S3://b", "hf+x://b", "gs:/b/r"])
def test_addresses(path):
    assert io.is_remote(path)


@pytest.mark.parametrize("path", ["", "records", "/data/a:b", "C:/data", "./gs://b"])
def test_paths_of_this_machine(path):
    assert not io.is_remote(path)


def test_what_was_written_reads_back(tmp_path):
    io.write_text(tmp_path / "new" / "a.txt", "π\n")
    io.write_json(tmp_path / "new" / "a.json", {"top1": np.float32(0.5), "labels": [1]})
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "π\n"
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"top1": 0.5, "labels": [1]}
    assert names(tmp_path / "new") == ["a.json", "a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_alone(tmp_path, error):
    io.write_text(tmp_path / "a", "old")

    def write_half():
        with io.writing(tmp_path / "a") as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_writer_that_is_killed_leaves_the_old_file_and_what_the_next_one_removes(tmp_path):
    io.write_text(tmp_path / "a", "old")
    code = (
        "import os, signal, sys\n"
        "from adafocus_jax import io\n"
        "with io.writing(sys.argv[1]) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"
    (tmp_path / io.partial_path("a.b").name).touch()  # another file's
    assert len(names(tmp_path)) == 3
    io.remove_partials(tmp_path / "a")
    assert [name[:5] for name in names(tmp_path)] == [".a.b.", "a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, call):
    io.write_text(tmp_path / "a", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        io.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_the_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    io.write_text(tmp_path / "a", "1")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder
    io.write_bytes(tmp_path / "a", b"2", durable=False)
    assert calls[3:] == ["replace"]


def test_of_two_writers_one_wins_whole(tmp_path):
    texts = {letter: letter * 100_000 for letter in "abcd"}
    gate = threading.Barrier(len(texts))

    def write(text):
        gate.wait()
        for _ in range(20):
            io.write_bytes(tmp_path / "a", text.encode(), durable=False)

    threads = [threading.Thread(target=write, args=[text]) for text in texts.values()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "a").exists():
            assert (tmp_path / "a").read_text() in texts.values()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_several_stays_where_nothing_is_overwritten(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    for number in "12":
        with io.writing(tmp_path / "a", overwrite=False) as partial:
            partial.write_text(number)
    assert (tmp_path / "a").read_text() == ("1" if links else "2")
    assert names(tmp_path) == ["a"]


def test_a_folder_is_made_whole(tmp_path):
    def make(path, fails):
        with io.writing(path) as partial:
            (partial / "checkpoints").mkdir(parents=True)
            assert not path.exists()
            if fails:
                raise RuntimeError("no more")

    make(tmp_path / "run", fails=False)
    assert names(tmp_path / "run") == ["checkpoints"]
    with pytest.raises(RuntimeError, match="no more"):
        make(tmp_path / "other", fails=True)
    assert names(tmp_path) == ["run"]


def test_links_and_pipes_stay_what_they_are(tmp_path):
    io.write_text(tmp_path / "a", "old")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    io.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
    io.write_text("/dev/null", "gone")
    assert not os.path.isfile("/dev/null")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(io.time, "monotonic", lambda: clock[0])
    with io.progress("evaluating", 1000) as advance:
        for seconds in (1, 10, 1, 390, 15, 15):
            clock[0] += seconds
            advance(100)
        advance(0)
        advance(400)
    assert capsys.readouterr().err.splitlines() == [
        "evaluating: 200/1000 videos, 18.2/s, 0:00:44 left",
        "evaluating: 400/1000 videos, 0.995/s, 0:10:03 left",
        "evaluating: 600/1000 videos, 1.39/s, 0:04:48 left",  # after 432 s, no sooner than 21 s after the last
        "evaluating: 1000/1000 videos",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    terminal = standard_io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with io.progress("counting", 8, "steps") as advance:
        advance(3)
        advance(5)
    assert "counting" in terminal.getvalue()
    assert "8/8" in terminal.getvalue()
    assert "steps/s" in terminal.getvalue()


def test_it_loads_neither_numpy_nor_rich():
    code = "import sys, adafocus_jax.io; assert not {'jax', 'numpy', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
