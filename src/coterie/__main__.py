"""`python -m coterie` is `coterie`; `torchrun --nproc-per-node 2 -m coterie fit ...` shares a run among processes."""

import sys

from coterie.cli import main

sys.exit(main())
