"""Verification of finished artifacts: every file that a record lists has its size and hash, and nothing is missing."""

from reasonembed import artifacts, storage
from reasonembed.errors import UserError


def damaged_files(root: str) -> tuple[int, list[str]]:
    """Reads all files of all finished artifacts below a root.

    Args:
        root: ``run.root``.

    Returns:
        The number of files that were read, and a line for each that is missing or differs from its record.
    """
    root = storage.absolute(root)
    count, problems = 0, []
    for stage in storage.list_folders(root):
        for fingerprint in storage.list_folders(storage.join(root, stage)):
            folder = storage.join(root, stage, fingerprint)
            try:
                artifact = artifacts.load(folder)
            except UserError as error:
                problems.append(str(error))
                continue
            for entry in artifact.files if artifact is not None else []:
                assert artifact is not None
                count += 1
                try:
                    actual = storage.describe_file(artifact.uri, entry.path)
                except FileNotFoundError:
                    problems.append(f"{storage.join(artifact.uri, entry.path)} is missing")
                    continue
                if actual != entry:
                    problems.append(f"{storage.join(artifact.uri, entry.path)} differs from its record")
    return count, problems
