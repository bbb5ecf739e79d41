"""Runs a job on a cluster: ``python jobs/submit.py JOB CONFIG [section.key=value ...] [--wait]``, or ``--stop ID``."""

from reasonembed.cli.jobs import run_submission

if __name__ == "__main__":
    run_submission()
