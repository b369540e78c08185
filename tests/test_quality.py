"""The house rules that tools can check: lint, format, types, file sizes, a command that starts fast."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("adafocus_jax", "tests", "configs", "launch")
    for path in (REPOSITORY / folder).rglob("*.py")
)
MAX_LINES = 400
MAX_COMMAND_LINES = 120


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize(
    "tool",
    [("ruff", "check", "--output-format=concise", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["lint", "format", "types"],
)
def test_tool_is_content(tool):
    done = run_python("-m", *tool)
    assert done.returncode == 0, f"{' '.join(tool)}\n{done.stdout}{done.stderr}"


def test_files_stay_small():
    lines = {
        path.relative_to(REPOSITORY).as_posix(): len(path.read_text("utf-8").splitlines()) for path in SOURCES
    }
    assert lines
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_commands_only_parse_call_and_print():
    lines = {
        path.name: len(path.read_text("utf-8").splitlines())
        for path in SOURCES
        if path.parent == REPOSITORY / "adafocus_jax" / "cli"
    }
    assert "main.py" in lines
    assert not {name: count for name, count in lines.items() if count > MAX_COMMAND_LINES}


def test_no_drawer_for_everything():
    drawers = {"util", "utils", "helpers", "misc"}
    assert not [path for path in SOURCES if path.stem in drawers or path.parent.name in drawers]


def test_the_command_imports_without_a_warning():
    done = run_python("-W", "error", "-m", "adafocus_jax", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("adafocus_jax ")


def test_help_does_not_load_jax():
    code = (
        "import sys\n"
        "from adafocus_jax.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as error: assert error.code == 0\n"
        "loaded = {'jax', 'flax', 'grain', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
