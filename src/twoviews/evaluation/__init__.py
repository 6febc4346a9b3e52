"""Features and what is measured on them."""
