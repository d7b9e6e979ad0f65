"""All that touches Redis. Nothing outside this package speaks its commands."""
