"""This repo's own layout."""
