"""Figures and the offline HTML page; reads run folders only and never imports torch.

`figures` and `features.maps` draw plain data; `page.write_report` makes the page, of what the other modules say.
"""
