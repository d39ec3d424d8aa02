"""`python -m instructx_core` is the `instructx` command."""

import sys

from .cli import main

sys.exit(main())
