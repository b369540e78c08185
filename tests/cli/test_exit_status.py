import pytest

from adafocus_jax.cli.exit_status import status_of


def test_an_error_of_the_system_is_one_line_with_its_path(tmp_path, capsys):
    assert status_of("adafocus train", lambda: len((tmp_path / "gone").read_text())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"adafocus train: {tmp_path}/gone: No such file or directory (--debug shows where)"


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_where(debug, capsys):
    def full():
        raise OSError(28, "No space left on device")

    assert status_of("adafocus train", full, debug=debug) == 2
    assert ("Traceback" in capsys.readouterr().err) == debug
