"""Everything that relies on internals of Ray Serve; written for ray==2.60.0.

``tests/contract/test_ray_serve_internals.py`` fails if an update of Ray changes them.
"""

import logging
import re
from typing import Any

from ray import serve

SERVE_LOGGER = "ray.serve"


def asgi_ingress(replica: type) -> Any:
    """Returns a deployment class whose replicas answer HTTP with an ASGI application of their own.

    Ray Serve builds the application after the replica's constructor has run, so it can use the constructor's objects.
    (``serve.ingress(app)`` pickles one application for all replicas instead.)

    Args:
        replica: class with a method ``build_asgi_app(self)`` that returns an ASGI application.
    """

    class Ingress(replica):  # type: ignore[misc, valid-type]
        def __serve_build_asgi_app__(self) -> Any:
            return self.build_asgi_app()

    return serve.ingress()(Ingress)


def log_through_serve(package: str) -> None:
    """Lets a package's log messages go to the log of the replica, where Ray Serve's own messages go.

    Args:
        package: name of the package's logger.
    """
    logger, serve_logger = logging.getLogger(package), logging.getLogger(SERVE_LOGGER)
    # The same list object: when Ray Serve exchanges its handlers, this logger follows.
    logger.handlers, logger.propagate = serve_logger.handlers, False


def startup_error(application: str, error: type[Exception]) -> str | None:
    """Returns the message of the error that ended the start of a replica; None if it was another error.

    Ray Serve reports the error only as a traceback within the status message of the deployment.

    Args:
        application: name of the application.
        error: type of the error that is looked for.
    """
    deployments = serve.status().applications[application].deployments
    return find_error("\n".join(deployment.message for deployment in deployments.values()), error)


def find_error(traceback: str, error: type[Exception]) -> str | None:
    """Returns the first line of an error's message in the text of a traceback; None if there is no such error."""
    match = re.search(rf"\b{re.escape(f'{error.__module__}.{error.__qualname__}')}: (.*)", traceback)
    return match[1] if match else None
