"""The k-means section: clusters against classes, and the pictures of each."""
