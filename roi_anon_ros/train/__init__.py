"""Training: data, the region-of-interest loss, the trainer."""
