"""Side-by-side measurements of mlports and the tools people use in its place: `python -m benchmarks`."""
