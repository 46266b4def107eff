"""`python -m mlports`: the command line."""

from mlports.cli import main

main()
