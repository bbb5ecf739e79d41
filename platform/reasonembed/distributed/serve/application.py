"""The endpoint as an application of Ray Serve, and the job that runs it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from reasonembed.config import Config, Resources
from reasonembed.distributed.cluster import start_ray
from reasonembed.distributed.serve.application_args import GatewayUserConfig, ServeArgs
from reasonembed.distributed.serve.encoder_replica import EncoderReplica
from reasonembed.distributed.serve.gateway_replica import GatewayReplica
from reasonembed.distributed.serve.haproxy_wrapper import BINARY_VARIABLE, ENABLED_VARIABLE, ENVIRONMENT, haproxy_script
from reasonembed.distributed.serve.header_timeout import CALLBACK, CALLBACK_VARIABLE
from reasonembed.distributed.serve.ray_serve_internals import asgi_ingress, startup_error
from reasonembed.distributed.serve.shard_replica import ShardReplica
from reasonembed.errors import JobFailed, UserError
from reasonembed.serving.access_control import is_loopback
from reasonembed.serving.active_index import NoServableIndexError
from reasonembed.serving.api_keys import read_keys
from reasonembed.serving.index_pointer import candidate_indexes
from reasonembed.serving.index_shards import load_index_artifact

APPLICATION = "search"
MAX_ONGOING_REQUESTS = 1024  # Of a replica. Overload is refused by the gateway, with an error that says so.
LOGGING = LoggingConfig(encoding="JSON", enable_access_log=False)  # The gateway writes its own line for each request.


def build(args: ServeArgs) -> serve.Application:
    """Returns the application, for ``serve run``, ``serve deploy`` and ``jobs/serve.py``.

    Args:
        args: of the application.

    Raises:
        UserError: the keys are missing or invalid, or a GPU is requested where nothing can use it.
    """
    keys = read_keys(args.keys_file)  # Invalid keys are reported here and not in the log of a replica.
    if not keys and os.environ.get(ENABLED_VARIABLE) == "1" and "host" not in args.model_fields_set:
        raise UserError(
            f"behind HAProxy ({ENABLED_VARIABLE}=1) the endpoint cannot see who sends a request: set keys_file"
        )

    def deployment(replica: type, name: str, replicas: int, resources: Resources, **options: Any) -> Any:
        return serve.deployment(
            replica,
            name=name,
            num_replicas=replicas,
            max_ongoing_requests=MAX_ONGOING_REQUESTS,
            ray_actor_options=resources.options,
            logging_config=LOGGING,
            **options,
        )

    encoder = deployment(EncoderReplica, "encoder", args.encoders, args.resources).bind(args) if args.encoders else None
    shard_count, search = args.search_shards, args.search
    if search.gpus and not shard_count:
        raise UserError("gateways have no GPU: to search on one, set search_shards to 1 or more")
    shards = [
        deployment(ShardReplica, f"shard-{number}", 1, search).bind(number, shard_count, search.device)
        for number in range(shard_count)
    ]
    resources = Resources(cpus=0.5, pool=args.resources.pool) if encoder else args.resources
    user_config = GatewayUserConfig().model_dump()
    gateway = deployment(asgi_ingress(GatewayReplica), "gateway", args.gateways, resources, user_config=user_config)
    return gateway.bind(args, encoder, shards)


def serve_forever(config: Config) -> None:
    """Serves the run's index on ``serve.host:port`` until interrupted.

    Args:
        config: the whole configuration.

    Raises:
        UserError: there is no index, or the host is reachable from other machines and there are no keys.
        JobFailed: no index can be served.
    """
    args = ServeArgs(
        run_root=config.run.root,
        place=config.cluster.serve,
        search=config.cluster.search,
        **config.serve.model_dump(),
    )
    # Checked before Ray starts, so that the user sees the error at once.
    load_index_artifact(candidate_indexes(args.index, args.run_root)[0])
    if not read_keys(args.keys_file) and not is_loopback(args.host):
        raise UserError(
            f"serve.host {args.host} can be reached from elsewhere: set serve.keys_file, or serve on 127.0.0.1"
        )
    with _limited_proxies():
        start_ray()
        serve.start(http_options={"host": args.host, "port": args.port}, logging_config=LOGGING)
        try:
            serve.run(build(args), name=APPLICATION, route_prefix="/", blocking=True)
        except RuntimeError:
            message = startup_error(APPLICATION, NoServableIndexError)
            if message is None:
                raise
            raise JobFailed(message) from None


@contextmanager
def _limited_proxies() -> Iterator[None]:
    """Sets variables that the HTTP proxies of a Ray read that is started within the block; a cluster's own variables
    must be set on its machines."""
    with ExitStack() as stack:
        os.environ.setdefault(CALLBACK_VARIABLE, CALLBACK)
        if os.environ.get(ENABLED_VARIABLE) == "1":
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            os.environ[BINARY_VARIABLE] = str(stack.enter_context(haproxy_script()))
        yield
