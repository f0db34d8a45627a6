"""`python -m laegd`, where no script is installed."""

from laegd.cli import main

if __name__ == "__main__":
    main()
