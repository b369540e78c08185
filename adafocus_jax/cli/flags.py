"""Between the arguments of the library and the flags of a command: defaults one way, error messages the other."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's arguments, for the flags that stand for them.

    >>> defaults_of(sorted)
    {'key': None, 'reverse': False}
    """
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of a flag that takes integers from ``lowest`` on.

    >>> at_least(1)("2")
    2
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text} is not valid: give {lowest} or more")
        return int(text)

    return parse


def add_backend_arguments(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """The flags that say what runs the networks. The library checks the choices, which plugins may extend."""
    text = "xla, openvino (CPU), or auto: OpenVINO on a CPU where it is installed (default %(default)s)"
    parser.add_argument("--backend", metavar="NAME", default=default, help=text)
    text = "bfloat16: faster with OpenVINO, predictions may change (default %(default)s)"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=text)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags by which several processes of one run find each other: arguments of ``train.processes.connect``."""
    for flag, kind, metavar, text in (
        (
            "--coordinator",
            str,
            "HOST:PORT",
            "of process 0, for several processes outside of Slurm and TPU pods",
        ),
        ("--num-processes", int, "N", "how many processes there are"),
        ("--process-id", int, "N", "which one this is, from 0"),
    ):
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Argument to what stands for it on the command line: a flag, or the name of a positional argument.

    >>> parser = argparse.ArgumentParser(add_help=False)
    >>> _ = parser.add_argument("out", metavar="OUT"), parser.add_argument("--val-fraction")
    >>> flags_of(parser)
    {'out': 'OUT', 'val_fraction': '--val-fraction'}
    """
    flags: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for nested in action.choices.values():
                flags |= flags_of(nested)
        else:
            flags[action.dest] = action.option_strings[-1] if action.option_strings else str(action.metavar)
    return flags


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """A message of the library, which writes arguments as Python does, in the words of the command line.

    >>> in_flags("size=2 is not valid: drop `size`", {"size": "--size"})
    '--size 2 is not valid: drop --size'
    >>> in_flags("take start_over=True to begin anew", {"start_over": "--start-over"})
    'take --start-over to begin anew'
    """

    def translate(found: re.Match[str]) -> str:
        name, alone = found[1] or found[3], found[2] or found[3]
        return flags[name] + ("" if alone else " ") if name in flags else found[0]

    return re.sub(r"(?<![^\s(])(\w+)=(?:(True\b)|(?=\S))|`(\w+)`", translate, message)
