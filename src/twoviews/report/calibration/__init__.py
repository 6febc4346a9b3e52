"""Whether models are as sure as they are right, and which images are hardest."""
