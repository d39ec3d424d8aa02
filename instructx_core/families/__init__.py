"""One folder for each published kind of model: how it is recognised, and all that is its own."""
