"""A traced JAX function as an ONNX model, equation by equation: no weights file, no other framework between."""

from adafocus_jax.jaxpr_to_onnx.convert import OPSET, require_onnx, to_onnx
from adafocus_jax.jaxpr_to_onnx.primitives import PRIMITIVES
from adafocus_jax.jaxpr_to_onnx.program import Rows, UntranslatableError

__all__ = ["OPSET", "PRIMITIVES", "Rows", "UntranslatableError", "require_onnx", "to_onnx"]
