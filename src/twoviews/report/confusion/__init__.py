"""Confusion matrices: as figures, and as tables whose cells show their pictures."""
