"""Images of any kind: which are accepted, how they are read and decoded, and what can fail."""
