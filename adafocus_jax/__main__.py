"""``python -m adafocus_jax`` is the ``adafocus`` command."""

import sys

from adafocus_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
