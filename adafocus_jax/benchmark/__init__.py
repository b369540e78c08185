"""What things cost here, part by part, measured beside the usual ways in one run."""
