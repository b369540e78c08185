"""What people import: names at the top, loaded when they are used, found again by every package's ``__init__``."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import adafocus_jax

ROOT = Path(adafocus_jax.__file__).parent
PACKAGES = sorted(
    ".".join(("adafocus_jax", *path.parent.relative_to(ROOT).parts)) for path in ROOT.rglob("__init__.py")
)


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_takes_less_than_a_tenth_of_a_second_and_loads_nothing():
    told = in_a_fresh_process(
        "import sys, time\n"
        "start = time.process_time()\n"  # of this process alone: the machine may be busy
        "import adafocus_jax\n"
        "print(time.process_time() - start)\n"
        "print(*(name for name in ('jax', 'numpy', 'av', 'cv2', 'matplotlib') if name in sys.modules))"
    )
    seconds, loaded = told.split("\n")[:2]
    assert float(seconds) < 0.1
    assert not loaded


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_there(package):
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(module))
    for name in names:
        assert getattr(module, name) is not None
    assert names or package == "adafocus_jax.cli"


def test_the_names_that_people_need_are_at_the_top():
    wanted = """create_model init_variables sample_draws VideoBatch uni_adafocus_loss crop_patches select_frames
        expected_logits Predictor train make_train_step make_optimizer load_checkpoint convert_state_dict model_cost
        prepare UserError"""
    assert set(wanted.split()) <= set(adafocus_jax.__all__)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'create_modle': did you mean 'create_model'"):
        _ = adafocus_jax.create_modle
    with pytest.raises(AttributeError, match=r"it exports .*Predictor"):
        _ = adafocus_jax.zzz
    with pytest.raises(ImportError):
        exec("from adafocus_jax import nothing_of_the_kind")
    assert not hasattr(adafocus_jax, "__wrapped__")


@pytest.mark.parametrize("first", ["adafocus_jax.train.loop", "adafocus_jax.errors"])
def test_train_is_a_package_and_its_function_whatever_was_imported_first(first):
    told = in_a_fresh_process(
        f"import {first}, adafocus_jax\n"
        "from adafocus_jax import train\n"
        "import adafocus_jax.train.step\n"
        "assert train is adafocus_jax.train, train\n"
        "assert adafocus_jax.train.TrainOptions is adafocus_jax.TrainOptions\n"
        "try: train()\n"
        "except TypeError as error: print(error)"
    )
    assert "train() missing" in told


def test_a_missing_dependency_is_not_taken_for_an_unknown_name(tmp_path, monkeypatch):
    package = tmp_path / "lazy_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from adafocus_jax.lazy import lazy_exports\n"
        "if TYPE_CHECKING:\n"
        "    from lazy_package.ready import VALUE as VALUE\n"
        "    from lazy_package import ready as ready\n"
        "__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)\n"
    )
    (package / "ready.py").write_text("VALUE = 3\n")
    (package / "broken.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("lazy_package")
    assert (module.VALUE, module.ready.VALUE, module.__all__) == (3, 3, ["VALUE", "ready"])
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        _ = module.broken
