"""The ``adafocus`` command: flags become a config, a config becomes one library call."""
