"""Data sources, splits, copies, batches and augmentations."""
