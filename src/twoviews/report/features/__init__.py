"""The feature quality section: maps and what their numbers say."""
