"""What the data checks found: class balance, copies, labels to look at."""
