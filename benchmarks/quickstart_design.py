"""What each part of the quickstart's loss is worth, on the dev questions of ``pydocs``.

    python benchmarks/quickstart_design.py [variant ...] [--seeds 42 43]

All variants share the corpus, the training data and the base model's vectors (``runs/bench``). Each costs a training
and an encoding of the corpus, some four minutes on two cores. A seed draws other source documents and batches. The
table gives nDCG@10 on dev and the paired difference to the base model with its 95 % interval.
"""

import argparse
import sys
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from reasonembed.config import load_config
from reasonembed.distributed.jobs import quiet_libraries
from reasonembed.distributed.pipeline import Pipeline
from reasonembed.evaluation.metrics import AVERAGE, intervals

CONFIG = Path(__file__).parents[1] / "jobs" / "configs" / "quickstart.yaml"
NO_RI = "train.ri_start_step=1000000"
VARIANTS = {
    "quickstart": [],
    "quickstart without RI": [NO_RI],
    "soft targets alone": ["train.infonce_weight=0", NO_RI],
    "InfoNCE": ["train.infonce_weight=1", "train.soft_target_weight=0", NO_RI],
    "RI-InfoNCE": ["train.infonce_weight=1", "train.soft_target_weight=0"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), help=f"of: {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        sys.exit(f"unknown variant {unknown.pop()!r}; there are {', '.join(VARIANTS)}")
    quiet_libraries()
    console = Console(stderr=True)
    table = Table(title="pydocs, dev questions")
    for column in ("variant", "seed", "base", "trained", "difference", "95 % interval"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for seed in arguments.seeds:
        for variant in arguments.variants:
            overrides = ["run.root=runs/bench", "evaluate.split=dev", f"run.seed={seed}", *VARIANTS[variant]]
            config = load_config(CONFIG, overrides)
            pipeline = Pipeline(config, announce=console.print)
            base, trained = (pq.read_table(pipeline.evaluate(n).path("per_query.parquet")) for n in ("base", "trained"))
            gain = intervals(trained, config.evaluate.bootstrap, 0, baseline=base)[AVERAGE]
            values = [intervals(t, config.evaluate.bootstrap, 0)[AVERAGE].value for t in (base, trained)]
            table.add_row(
                variant,
                str(seed),
                *(f"{v:.4f}" for v in values),
                f"{gain.value:+.4f}",
                f"{gain.low:+.4f} … {gain.high:+.4f}",
            )
            console.print(table)
    Console().print(table)


if __name__ == "__main__":
    main()
