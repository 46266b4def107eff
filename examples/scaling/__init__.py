"""A hundred thousand tasks at once over two workers: the article's `scaling_example`."""
