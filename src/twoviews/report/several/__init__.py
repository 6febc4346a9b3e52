"""One page that compares several studies."""
