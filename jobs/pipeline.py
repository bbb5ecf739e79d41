"""Everything, from the corpus to the report: ``python jobs/pipeline.py CONFIG [section.key=value ...]``."""

from reasonembed.distributed.jobs import run_job
from reasonembed.distributed.report import write_report

if __name__ == "__main__":
    run_job("pipeline", write_report)
