"""Makes ``python -m skcandle`` run the command ``skcandle``."""

from .cli import main

if __name__ == "__main__":
    main()
