"""The fault campaigns in full, and the report on them."""
