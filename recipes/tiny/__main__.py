"""`python -m recipes.tiny` is the `instructx` command, with the stages of this recipe."""

import sys

from instructx_core.cli import main

sys.exit(main())
