"""Compares all finished artifacts with their records: ``python jobs/verify.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.maintenance import run_verify

if __name__ == "__main__":
    run_verify()
