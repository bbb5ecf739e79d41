"""Ray Data: row stages, worker pools, encoding, mining, assembly, training batches, index building."""
