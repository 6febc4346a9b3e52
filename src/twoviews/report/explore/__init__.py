"""The part of the page that answers to a hand: linked maps of the test images, their pictures, their neighbours."""

from twoviews.report.explore.section import ExploreSection, explore_section

__all__ = ["ExploreSection", "explore_section"]
