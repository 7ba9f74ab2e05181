"""`python -m ticketlock`: the same as the `ticketlock` command."""

import sys

from .cli import main

sys.exit(main())
