"""`python -m tunedesk`."""

import sys

from tunedesk.cli import main

if __name__ == "__main__":
    sys.exit(main())
