"""How to train: the recipe document, its parts, and known mistakes in it. Free of torch."""
