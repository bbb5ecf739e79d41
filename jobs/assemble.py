"""Makes training rows of the graded pairs: ``python jobs/assemble.py CONFIG [section.key=value ...]``."""

from reasonembed.cli.jobs import run_stage

if __name__ == "__main__":
    run_stage("assemble")
