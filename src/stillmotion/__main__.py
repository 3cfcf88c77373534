"""`python -m stillmotion`, the same as `stillmotion`."""

import sys

from stillmotion.cli import main

sys.exit(main())
