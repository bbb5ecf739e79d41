"""What ``reasonembed.distributed.serve.ray_serve_internals`` relies on in Ray Serve, checked for the pinned version."""

import asyncio
import builtins
import inspect
import json
import logging
import sys
import traceback
from importlib.metadata import requires, version
from types import SimpleNamespace

import cloudpickle
import pytest
from packaging.requirements import Requirement
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve._private import deployment_state, replica
from ray.serve._private.common import ServeComponentType
from ray.serve._private.logging_utils import configure_component_logger
from ray.serve.schema import DeploymentStatusOverview, LoggingConfig

from reasonembed.distributed.serve import ray_serve_internals
from reasonembed.distributed.serve.ray_serve_internals import asgi_ingress, log_through_serve, startup_error
from reasonembed.serving.active_index import NoServableIndexError

PIN = "2.60.0"


def test_the_pin_is_the_version_that_was_checked():
    [ray] = [one for one in map(Requirement, requires("reasonembed")) if one.name == "ray" and "serve" in one.extras]
    assert str(ray.specifier) == f"=={PIN}"
    assert version("ray") == PIN


class Greeter:
    """A replica whose application uses an object of its constructor."""

    def __init__(self, greeting):
        self.greeting = greeting

    def build_asgi_app(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.greeting.encode()})

        return app


def test_ray_serve_answers_with_the_application_that_the_replica_builds():
    assert replica.SERVE_BUILD_ASGI_APP_METHOD == "__serve_build_asgi_app__"
    # As Ray Serve does it: the class is pickled; the application is built when the constructor has run.
    deployment_class = cloudpickle.loads(cloudpickle.dumps(asgi_ingress(Greeter)))
    deployment_class.__del__ = lambda self: None  # Ray Serve's own is a coroutine, which only Ray Serve awaits.
    sent = []

    async def send(message):
        sent.append(message)

    async def answer():
        greeter = deployment_class.__new__(deployment_class)
        await greeter.__init__("good morning")
        app = getattr(greeter, replica.SERVE_BUILD_ASGI_APP_METHOD)()
        greeter._set_asgi_app(app)
        await greeter.app({"type": "http"}, None, send)

    asyncio.run(answer())
    assert sent[-1]["body"] == b"good morning"


@pytest.fixture
def replica_log(tmp_path, monkeypatch):
    """A function that sets up logging as in a replica of Ray Serve and returns the entries of its log file."""
    names = (ray_serve_internals.SERVE_LOGGER, "reasonembed")
    before = [(logging.getLogger(name), logging.getLogger(name).__dict__.copy()) for name in names]
    for owner, name in ((sys, "stdout"), (sys, "stderr"), (builtins, "print")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    configuration = LoggingConfig(encoding="JSON", enable_access_log=False, logs_dir=str(tmp_path))

    def configure():
        configure_component_logger(
            component_name="gateway",
            component_id="r1",
            logging_config=configuration,
            component_type=ServeComponentType.REPLICA,
            max_bytes=1 << 20,
            backup_count=1,
        )

    def entries():
        return [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]

    yield SimpleNamespace(configure=configure, entries=entries)
    for logger, attributes in before:
        logger.__dict__.update(attributes)


def test_messages_of_the_package_go_to_the_log_of_the_replica(replica_log):
    logging.getLogger(ray_serve_internals.SERVE_LOGGER).handlers = []
    replica_log.configure()
    log_through_serve("reasonembed")
    logging.getLogger("reasonembed.serving.active_index").warning("index one is live")
    replica_log.configure()  # as when the deployment's logging is configured again
    logging.getLogger("reasonembed.serving.active_index").warning("index two is live")
    logging.getLogger(ray_serve_internals.SERVE_LOGGER).info("request", extra={"path": "/v1/search", "status": 200})
    entries = replica_log.entries()
    assert [entry["message"] for entry in entries] == ["index one is live", "index two is live", "request"]
    assert [entry["deployment"] for entry in entries] == ["gateway"] * 3
    assert (entries[-1]["path"], entries[-1]["status"]) == ("/v1/search", 200)


def status_message(error):
    """Returns the status message of a deployment whose replica raised an error at its start, as Ray Serve makes it."""
    try:
        try:
            raise error
        except Exception:  # noqa: BLE001  as ``Replica.initialize`` does
            raise RuntimeError(traceback.format_exc()) from None
    except RuntimeError as wrapped:
        task_error = RayTaskError("ServeReplica.initialize_and_get_metadata", traceback.format_exc(), wrapped)
    return f"The deployment failed to start 3 times in a row. Error:\n{task_error.as_instanceof_cause()}"


def test_the_error_of_a_failed_start_is_found_in_the_status_message(monkeypatch):
    messages = {}
    monkeypatch.setattr(
        serve,
        "status",
        lambda: SimpleNamespace(
            applications={
                "search": SimpleNamespace(
                    deployments={name: SimpleNamespace(message=text) for name, text in messages.items()}
                )
            }
        ),
    )
    reason = "no index can be served; /runs/index/a: UserError: index /runs/index/a is damaged"
    messages |= {"encoder": "", "gateway": status_message(NoServableIndexError(reason))}
    assert startup_error("search", NoServableIndexError) == reason
    messages["gateway"] = status_message(ValueError(reason))
    assert startup_error("search", NoServableIndexError) is None
    messages["gateway"] = ""
    assert startup_error("search", NoServableIndexError) is None


def test_ray_serve_makes_the_status_message_as_the_test_above_does():
    assert "raise RuntimeError(traceback.format_exc()) from None" in inspect.getsource(replica.Replica.initialize)
    startup_check = inspect.getsource(deployment_state.ActorReplicaWrapper.check_ready)
    assert "return ReplicaStartupStatus.FAILED, str(e.as_instanceof_cause())" in startup_check
    assert "message" in DeploymentStatusOverview.__annotations__
