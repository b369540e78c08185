"""Makes records of videos, on one machine or many, and verifies them."""
