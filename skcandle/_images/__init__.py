"""Images of any kind: what counts as one, how it is read and decoded, what is wrong with it."""
