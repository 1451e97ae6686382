"""Accuracy and probabilities of the classifier beside other methods, on frozen embeddings."""
