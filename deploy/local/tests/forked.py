"""A module for the tests of forked processes: prints what it is, then exits or waits."""

import os
import sys
import time

if __name__ == "__main__":
    print(f"argv {sys.argv[1:]} in {os.getcwd()} as group {os.getpgrp()}")
    print(f"environment {sorted(os.environ)}")
    if "EXIT" in os.environ:
        sys.exit(int(os.environ["EXIT"]))
    time.sleep(600)
