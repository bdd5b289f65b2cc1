"""Puts `agents/` on the path, as Axon does for a runner."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "agents"))
