"""Records or videos become batches: sampled, cut, put together."""
