"""The part of the page that answers to a hand: linked maps of the test images, their pictures, their neighbours."""
