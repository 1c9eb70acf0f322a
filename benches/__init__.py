"""What the README's table is made from: `python -m benches`."""
