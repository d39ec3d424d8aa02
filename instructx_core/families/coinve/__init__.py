"""CoinVE-Edit (coinve200k/CoinVE-200K): several edits of one clip, each in its own region."""
