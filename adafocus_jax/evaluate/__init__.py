"""Running a trained model over a split or over single videos, and what the numbers are."""
