"""The measurements in the README's table: `python -m benches` runs them."""
