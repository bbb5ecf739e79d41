"""Command line of the scripts in ``jobs/``: arguments, errors, exit codes, submission to a cluster."""
