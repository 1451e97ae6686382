"""Labels of images, and the classes that they name."""

# Entries of `LabellingSession.labels` that are not positions of classes.
UNLABELLED, NONE, SKIP = -1, -2, -3
