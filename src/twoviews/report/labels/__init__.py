"""The label curve: figure, points, section."""
