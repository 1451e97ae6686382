"""The name of the model that comes with the library."""

BUNDLED_MODEL = "emoji-clip"
