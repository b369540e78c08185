"""Videos become sharded records (``prepare``), and records become batches (``pipeline``).

Nothing here imports JAX, so that worker processes start fast.
"""
