"""``python -m hunqi`` is ``hunqi``."""

from hunqi.cli.main import main

if __name__ == "__main__":
    main()
