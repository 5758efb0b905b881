"""Where files live: one git-ignored folder, `data/`, that `SA0_DATA` can move elsewhere."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the repository
DATA = Path(os.environ.get("SA0_DATA", ROOT / "data"))  # everything obtained or built: never committed
ASSETS = DATA / "assets"  # models, weights and the clip, as data_scripts/ leave them
RUNS = ROOT / "book" / "results" / "runs"  # recorded results, committed
