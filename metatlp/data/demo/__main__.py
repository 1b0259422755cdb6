"""python -m metatlp.data.demo --output-dir DIR [--seed S] [--scale s] [--label-noise p]"""

from pathlib import Path
import sys, argparse
from metatlp.data.demo.folder import write_demo

p = argparse.ArgumentParser()
p.add_argument("--output-dir")
p.add_argument("--seed", type=int, default=0)
p.add_argument("--scale", type=float, default=0.005)
p.add_argument("--label-noise", type=float, default=0)
a = p.parse_args()
w = write_demo(Path(a.output_dir), a.seed, a.scale, a.label_noise)
print(sum(w.values()), "examples", len(w), "files")
