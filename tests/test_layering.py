"""Imports run one way: a module imports only from layers before its own. Data workers never start JAX."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import adafocus_jax

PACKAGE = "adafocus_jax"
ROOT = Path(adafocus_jax.__file__).parent
ORDER = (
    ("errors",),
    ("plugins", "signals", "watchdog"),
    ("types",),
    ("io", "lazy", "allocator", "provenance", "safetensors"),
    ("ops",),
    ("jaxpr_to_onnx",),
    ("models",),
    ("losses", "metrics", "flops"),
    ("early_exit",),
    ("engine",),
    # The wings of data: one video on disk, which videos there are, videos as records, making those, batches.
    ("data.media",),
    ("data.datasets",),
    ("data.records",),
    ("data.prepare",),
    ("data.batches",),
    ("data",),
    ("checkpoint",),
    ("train",),
    ("evaluate",),
    ("config",),
    ("predict",),
    ("export",),
    ("plan",),
    ("visualize",),
    ("demo", "benchmark", "serve", "testing"),
    ("launch",),
    ("sweep",),
    ("cli",),
    ("__main__",),
)
RANK = {layer: rank for rank, layers in enumerate(ORDER) for layer in layers}
NOT_IN_WORKERS = ("jax", "flax", "optax", "orbax", "chex", f"{PACKAGE}.types", f"{PACKAGE}.ops")


@dataclass(frozen=True)
class Import:
    """One import statement, of one name."""

    target: str  # dotted; `from a.b import c` is a.b.c
    line: int
    lazy: bool  # inside a function: not run when the module is imported


class Imports(ast.NodeVisitor):
    """Collects what a module imports, but for what only the type checker sees."""

    def __init__(self, package: list[str]) -> None:
        self.package, self.depth, self.found = package, 0, []

    def visit_If(self, node: ast.If) -> None:
        for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.orelse if for_types else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(name.name, node.lineno, self.depth > 0) for name in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        base = [*base, *([node.module] if node.module else [])]
        self.found += [
            Import(".".join([*base, name.name]), node.lineno, self.depth > 0) for name in node.names
        ]


def module_name(path: Path, root: Path) -> str:
    parts = [PACKAGE, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> list[Import]:
    collector = Imports([PACKAGE, *path.relative_to(root).parent.parts])
    collector.visit(ast.parse(path.read_text(encoding="utf-8")))
    return collector.found


def layer_of(dotted: str) -> str | None:
    """The layer of a dotted name of the package; None for the package itself and for other packages."""
    first, *rest = dotted.split(".")
    names = [".".join(rest[:length]) for length in (2, 1)] if first == PACKAGE and rest else []
    return next((name for name in names if name in RANK), None)


def is_within(dotted: str, parents: tuple[str, ...]) -> bool:
    return any(dotted == parent or dotted.startswith(parent + ".") for parent in parents)


def complaint(layer: str, imported: Import) -> str | None:
    """Why a module of ``layer`` ("" for the package's own __init__) may not import this."""
    target = layer_of(imported.target)
    if layer == "":
        why = "the package's __init__ imports none of its layers, or every data worker would load them"
        return why if target and target != "lazy" else None
    in_data = layer.partition(".")[0] == "data"
    if in_data and not imported.lazy and is_within(imported.target, NOT_IN_WORKERS):
        return "data workers import this module and must not load JAX"
    if in_data and target in ("models", "engine"):
        return f"data and {target} know nothing of each other"
    if target and target != layer and RANK[target] >= RANK[layer]:
        return f"{layer} comes before {target}" if RANK[target] > RANK[layer] else "they stand side by side"
    return None


def violations(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root.parent).as_posix()
        layer = layer_of(module_name(path, root)) or ""
        if not layer and path != root / "__init__.py":
            first = path.relative_to(root).parts[0].removesuffix(".py")
            yield f"{place}: no such layer; give {first} its place in ORDER"
            continue
        for imported in imports_of(path, root):
            if why := complaint(layer, imported):
                yield f"{place}:{imported.line} imports {imported.target}: {why}"


def cycle(root: Path) -> list[str]:
    """Modules that import each other in a circle while they are imported; empty when there is none."""
    graph = {module_name(path, root): path for path in root.rglob("*.py")}
    edges = {}
    for name, path in graph.items():
        targets = [imported.target for imported in imports_of(path, root) if not imported.lazy]
        edges[name] = {t if t in graph else t.rpartition(".")[0] for t in targets} & graph.keys() - {name}
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_imports_run_one_way():
    assert not list(violations(ROOT)), "\n" + "\n".join(violations(ROOT))


def test_no_module_imports_itself_in_a_circle():
    assert not cycle(ROOT), " → ".join(cycle(ROOT))


def test_importing_the_data_package_starts_no_accelerator():
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "loaded = {'flax', 'adafocus_jax.types', 'adafocus_jax.ops'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        # grain imports jax, which is harmless; this raises when it has started a backend.
        "if 'jax' in sys.modules: sys.modules['jax'].config.update('jax_num_cpu_devices', 3)\n"
    )
    modules = sorted(module_name(path, ROOT) for path in (ROOT / "data").rglob("*.py"))
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        (
            "data/media/a.py",
            "from adafocus_jax.data.records.reader import Record",
            "data.media comes before data.records",
        ),
        ("data/batches/a.py", "import flax", "must not load JAX"),
        ("ops/a.py", "from adafocus_jax.models import create_model", "ops comes before models"),
        (
            "ops/a.py",
            "import adafocus_jax.cli.main",
            "a.py:1 imports adafocus_jax.cli.main: ops comes before cli",
        ),
        ("ops/a.py", "from adafocus_jax import types, cli", "imports adafocus_jax.cli"),
        ("ops/a.py", "from ..models.resnet import ResNet", "imports adafocus_jax.models.resnet.ResNet"),
        (
            "ops/a.py",
            "\ndef f():\n    from adafocus_jax.train import step",
            "a.py:3 imports adafocus_jax.train.step",
        ),
        ("losses.py", "from .metrics import top_k_accuracy", "side by side"),
        ("data/a.py", "from adafocus_jax.models import registry", "know nothing of each other"),
        ("models/a.py", "from adafocus_jax.data import pipeline", "models comes before data"),
        ("data/a.py", "import jax.numpy as jnp", "must not load JAX"),
        ("data/a.py", "from adafocus_jax.types import VideoBatch", "must not load JAX"),
        ("helpers.py", "", "give helpers its place"),
        ("__init__.py", "from adafocus_jax.models import create_model", "every data worker"),
    ],
)
def test_a_planted_violation_is_named(tmp_path, file, source, message):
    (found,) = violations(plant(tmp_path, {file: source}))
    assert message in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("cli/a.py", "from adafocus_jax import __version__, config\nfrom adafocus_jax.train import loop"),
        ("__init__.py", "from adafocus_jax.lazy import lazy_exports"),
        ("train/a.py", "from .b import c\nfrom . import b\nfrom adafocus_jax.train import b"),
        (
            "ops/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from adafocus_jax.cli import main",
        ),
        ("data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax"),
        ("data/a.py", "def f():\n    import jax"),
        ("data/a.py", "import jaxtyping"),
    ],
)
def test_what_is_allowed_passes(tmp_path, file, source):
    assert not list(violations(plant(tmp_path, {file: source})))


def test_a_planted_circle_is_named(tmp_path):
    files = {"ops/a.py": "from adafocus_jax.ops import b", "ops/b.py": "from adafocus_jax.ops.a import f"}
    assert set(cycle(plant(tmp_path, files))) == {"adafocus_jax.ops.a", "adafocus_jax.ops.b"}
    files["ops/b.py"] = "def g():\n    from adafocus_jax.ops.a import f"
    assert not cycle(plant(tmp_path, files))


def plant(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / PACKAGE
