"""The name of the bundled model."""

BUNDLED_MODEL = "emoji-clip"
