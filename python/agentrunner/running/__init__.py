"""Runs while they live: claimed, driven, followed, maintained, counted."""
