"""Pictures of what a model looked at: drawn as RGB ``uint8 [H, W, 3]`` arrays, written by ``files``."""
