"""twoviews: does self-supervised pretraining help on your images, by how much, and how sure is it?"""

__version__ = "0.1.0"
