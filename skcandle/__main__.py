"""``python -m skcandle``, the same as the command ``skcandle``."""

from .cli import main

if __name__ == "__main__":
    main()
