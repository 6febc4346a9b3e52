"""Figures and the offline HTML page; reads run folders only and never imports torch."""
