"""Where a process of coterie starts: `python -m coterie` and the command `coterie`.

`torchrun --nproc-per-node 2 -m coterie fit ...` shares a run among processes.
"""

import signal
import sys


def main() -> int:
    """Import the command line, which takes a while, and run it."""
    # Until it heeds Ctrl-C by itself, the process just ends, as other programs do; Python would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from coterie.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
