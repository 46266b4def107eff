"""A supervisor with one worker, restarted at most five times in ten seconds: the article's `supervision_example`."""
