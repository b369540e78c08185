import jax
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.ops.platform import PLATFORMS, lowering_for, target_platform


def test_default_is_the_backend():
    assert target_platform() == jax.default_backend()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_lowering_for_holds_inside_and_ends_outside(platform):
    before = target_platform()
    with lowering_for(platform):
        assert target_platform() == platform
        with lowering_for("tpu"):
            assert target_platform() == "tpu"
        assert target_platform() == platform
    assert target_platform() == before


def test_compiled_functions_are_traced_once_per_platform():
    traces = []

    @jax.jit
    def function(x):
        traces.append(target_platform())
        return x

    for platform in ("tpu", "gpu", "tpu"):
        with lowering_for(platform):
            function(1.0)
    assert traces == ["tpu", "gpu"]


def test_unknown_platform_is_named():
    with pytest.raises(UserError, match=r"'vax'.*cpu, gpu, tpu, reference"):
        lowering_for("vax")
