"""Hours of training, what feeds them and what they cost; and README's table of them, which has to stay true."""

import re
from pathlib import Path

import pytest

from adafocus_jax.cli.main import main, run_command
from adafocus_jax.errors import UserError
from adafocus_jax.plan.duration import DATA_SETS, MACHINES, Work, duration, duration_rows, machine_flops

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\w+) \| (\d\.\d{3}) \| ([\d.]+) \| (.* / .*) \|$", README, re.MULTILINE)


def test_a_closed_form():
    work = Work(tflop=0.1, videos=36_000, frames=10, stored_frames=100, peak_share=0.5)
    found = duration(work, "v4-2", core_frames=125, frame_kb=20, price=3)  # 275 TFLOP/s
    assert found.videos_per_sec == pytest.approx(1375)
    assert found.hours == pytest.approx(10 / 1375)
    assert found.cores == pytest.approx(110)
    assert found.mb_per_sec == pytest.approx(2750)
    assert found.cost == pytest.approx(30 / 1375)


@pytest.mark.parametrize("name", ["v4-0", "v9-8", "H100", "B1x8", ""])
def test_machines_that_are_none_are_refused(name):
    with pytest.raises(UserError, match="give a TPU slice such as v4-8"):
        machine_flops(name)


def test_every_row_of_readme_follows_from_its_flops():
    assert [name for name, *_ in ROWS] == list(DATA_SETS)
    for name, tflop, share, cells in ROWS:
        work = Work(float(tflop), 50 * DATA_SETS[name].count, 1, 1, float(share))
        hours = [float(cell.split(" / ")[0]) for cell in cells.split(" | ")]
        expected = [duration(work, machine, core_frames=1, frame_kb=1).hours for machine in MACHINES]
        assert hours == pytest.approx(expected, rel=0.06), name


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "activitynet" else pytest.mark.slow) for name in DATA_SETS],
)
def test_a_row_of_readme_is_what_the_command_prints(name, capsys):
    (row,) = [row for row in ROWS if row[0] == name]
    assert main(["plan", "--config", str(ROOT / "configs" / f"{name}.py")]) == 0
    assert f"| {' | '.join(row)} |" in capsys.readouterr().out


def test_a_price_of_another_machine_and_an_unknown_data_set_are_refused():
    with pytest.raises(UserError, match="there is a price of v4-8"):
        duration_rows({}, ["v5e-8"], {"v4-8": 1.0})
    with pytest.raises(UserError, match="the videos of 'custom' are not known"):
        run_command(["plan", "--config", str(ROOT / "configs" / "custom.py")])
