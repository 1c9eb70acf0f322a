"""Programs that tests and campaigns run as `python -m support.programs.<name>`."""
