"""Makes `examples` importable when the tests are started as `pytest` instead of `python -m pytest`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
