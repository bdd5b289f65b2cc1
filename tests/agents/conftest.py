"""Puts `agents/` on the path, as Axon does for a runner, and what the tests share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "agents"))
sys.path.append(str(Path(__file__).parent))
