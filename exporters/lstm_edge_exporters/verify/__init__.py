"""Does a file answer as what it was made from? Never imports torch."""
