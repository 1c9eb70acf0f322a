"""Helpers that tests, campaigns and their child processes share."""
