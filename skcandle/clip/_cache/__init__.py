"""Embeddings that were computed before: in memory, and in a folder."""
