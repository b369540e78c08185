"""The demonstration task: made videos with known truth, and scores of where and when a policy looked."""
