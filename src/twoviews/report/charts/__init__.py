"""The report's curves with values under the hand: their data, and the scripts that draw them in place of pictures."""
