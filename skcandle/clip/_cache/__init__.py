"""Caches of embeddings, in memory and in a folder."""
