"""Every command explains itself, with examples that its own parser accepts."""

import re
import shlex

import pytest

from adafocus_jax.cli.benchmark import BENCHMARKS
from adafocus_jax.cli.main import COMMANDS, main, parse

PAGES = [[name] for name in COMMANDS if name != "benchmark"] + [["benchmark", name] for name in BENCHMARKS]


def examples(text: str) -> list[list[str]]:
    """The words of each `adafocus ...` line below the heading "example" or "examples"."""
    epilog = text[max(text.find("\nexample:"), text.find("\nexamples:")) :]
    lines = re.sub(r"\$\w+_ID", "3", epilog.replace("\\\n", "")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith("adafocus ")]


def shown(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_command_has_examples_that_parse(words, capsys):
    text = shown(words, capsys)
    found = examples(text)
    assert any(example[: len(words)] == words for example in found)
    for example in found:
        assert parse(example).command == example[0]
    assert "−" not in text  # U+2212, which terminals and greps stumble over


@pytest.mark.parametrize(
    ("words", "names"), [([], COMMANDS), (["benchmark"], BENCHMARKS)], ids=["adafocus", "benchmark"]
)
def test_the_overview_lists_every_command_with_its_line(words, names, capsys):
    text = " ".join(shown(words, capsys).split())
    for name, line in names.items():
        assert f" {name} {line}" in text
