"""Each stage of a study, as its command runs it."""
