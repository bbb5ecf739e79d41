"""The stages as values, in order, and what a run reports: cost estimates, dry runs, reports. Imports no Ray."""
