"""A checkpoint and videos become predictions."""
