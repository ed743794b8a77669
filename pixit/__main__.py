"""``python -m pixit`` is the command ``pixit``."""

from pixit.cli import main

if __name__ == "__main__":
    main()
