"""`python -m recipes.insightedit_tiny train FOLDER` builds the model; see README.md."""

import sys

from .command import main

sys.exit(main())
