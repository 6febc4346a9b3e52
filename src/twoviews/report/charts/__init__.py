"""The report's curves with values under the hand: their data, and the scripts that draw them in place of pictures."""

from twoviews.report.charts.charts import ChartsSection, charts_section

__all__ = ["ChartsSection", "charts_section"]
