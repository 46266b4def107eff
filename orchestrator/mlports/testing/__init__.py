"""What is shipped for tests and for trying things out."""
