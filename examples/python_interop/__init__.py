"""One-shot programs of any language: arguments in, output and status out, and an end to their time."""
