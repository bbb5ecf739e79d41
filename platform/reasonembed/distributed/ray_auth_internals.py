"""What this package uses of Ray's authentication that is not public, for ray==2.60.0.

Ray reads ``RAY_AUTH_MODE`` when it is imported. A process that has imported Ray before it chose a token must make Ray
read the environment again. ``tests/contract/test_ray_auth.py`` fails when another Ray version changes this.
"""

from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]


def apply_auth_mode() -> None:
    """Makes Ray read its authentication settings from the environment again."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
