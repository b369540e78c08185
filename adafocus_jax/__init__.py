"""Uni-AdaFocus in JAX and Flax: where and when to look in a video, learned end to end."""

__version__ = "0.1.0"
