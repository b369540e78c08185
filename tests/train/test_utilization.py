import jax
import pytest

from adafocus_jax.train.utilization import peak_flops, peak_memory_gib


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v4", 275),
    ],
)
def test_kinds_are_known_by_the_beginning_of_their_name(kind, tflops):
    assert peak_flops(0, kind) == tflops * 1e12
    assert peak_flops(7, kind) == 7e12


def test_memory_is_that_of_the_fullest_device(monkeypatch):
    assert peak_memory_gib() == {}  # CPU does not tell

    class Device:
        def __init__(self, gib):
            self.gib = gib

        def memory_stats(self):
            return {"peak_bytes_in_use": self.gib * 2**30}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(1), Device(3)])
    assert peak_memory_gib() == {"peak_memory_gib": 3}
