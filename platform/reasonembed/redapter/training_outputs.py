"""Names and schemas of the files that a training writes into its artifact."""

import pyarrow as pa

MODEL = "model"
"""Folder of the trained model."""
TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's event files."""
HISTORY = "history.json"
"""Figures of every step, in order."""
INTENSITY = "intensity.parquet"
"""Reasoning intensity of every query in every step; rows of ``INTENSITY_SCHEMA``."""
INTENSITY_SCHEMA = pa.schema([("step", pa.int32()), ("query_id", pa.string()), ("intensity", pa.float32())])
