"""`python -m moderation`, which is what `moderation up` starts its processes with."""

import sys

from moderation.cli import main

sys.exit(main())
