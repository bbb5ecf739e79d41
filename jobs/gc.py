"""Lists what interrupted runs have left below ``run.root``: ``python jobs/gc.py CONFIG [section.key=value ...]``.

``--delete`` removes it; ``--unreferenced`` includes finished artifacts that no index and no evaluation was made from.
"""

from reasonembed.cli.maintenance import run_gc

if __name__ == "__main__":
    run_gc()
