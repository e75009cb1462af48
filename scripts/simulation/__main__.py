"""``scripts/simulate``."""

import argparse
import os
import sys
import time

from scripts.simulation.run import Plan, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/simulate")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    bad = 0
    for seed in seeds:
        began = time.process_time()
        outcome = simulate(Plan(seed, options.minutes))
        if options.trace:
            print("\n".join(outcome.story))
        print(f"seed {seed}: {outcome.counts} {outcome.seconds:.0f} s {outcome.digest} cpu {time.process_time()-began:.2f}")
        for line in outcome.broken:
            print("   BROKEN", line)
        bad += bool(outcome.broken)
    return bad > 0


status = main()
sys.stdout.flush()
import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024,'MB',flush=True)
os._exit(status)
