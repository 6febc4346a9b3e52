"""Backbones, projection head and classifier."""
