"""The section of augmented views."""
