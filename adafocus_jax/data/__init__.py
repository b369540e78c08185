"""Videos become sharded records (``prepare``), and records become batches (``pipeline``).

Nothing here starts JAX, so that worker processes stay light. (grain imports it, which does no more than that.)
"""
