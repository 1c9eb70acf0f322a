"""What tests, campaigns and their child processes share."""
