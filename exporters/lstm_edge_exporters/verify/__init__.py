"""Compares a file's answers with those of its source. Never imports torch."""
