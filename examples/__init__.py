"""Programs to run, each with its README: `python -m examples.NAME`, or `mlports demo NAME`."""

import sys

if sys.argv[:1] == ["-m"]:  # this is the first import of such a program, and not one by a test
    from .ending import end

    sys.excepthook = end
