"""Programs that tests and campaigns run as child processes: `python -m support.programs.<name>`."""
