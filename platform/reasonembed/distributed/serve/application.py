"""The endpoint as an application of Ray Serve, and the job that serves it."""

import os
import re
from typing import Any

from ray import serve
from ray.serve.schema import LoggingConfig

from reasonembed.config import Config, Resources
from reasonembed.distributed.cluster import start_ray
from reasonembed.distributed.serve.replicas import Encoder, Gateway, GatewayUserConfig, ServeArgs, Shard
from reasonembed.errors import JobFailed, UserError
from reasonembed.serving.index_pointer import candidates
from reasonembed.serving.index_shards import finished_index
from reasonembed.serving.keys import read_keys
from reasonembed.serving.middleware import is_loopback

APPLICATION = "search"
HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
NO_INDEX = re.compile(r"RuntimeError: (no index can be served; .*)")
AT_ONCE = 1024  # calls that a replica takes; what is too much the gateway refuses, and says so
LOGGING = LoggingConfig(encoding="JSON", enable_access_log=False)  # the gateway writes its own line for a request


def build(args: ServeArgs) -> serve.Application:
    """The application, for ``serve run``, ``serve deploy`` and ``jobs/serve.py``."""
    keys = read_keys(args.keys_file)  # wrong ones are said here and not in a replica's log
    if not keys and os.environ.get(HAPROXY) == "1" and "host" not in args.model_fields_set:
        raise UserError(f"behind HAProxy ({HAPROXY}=1) the endpoint cannot see who asks: name keys by keys_file")

    def deployed(cls: type, name: str, replicas: int, place: Resources, **options: Any) -> Any:
        return serve.deployment(
            cls,
            name=name,
            num_replicas=replicas,
            max_ongoing_requests=AT_ONCE,
            ray_actor_options=place.options,
            logging_config=LOGGING,
            **options,
        )

    encoder = deployed(Encoder, "encoder", args.encoders, args.place).bind(args) if args.encoders else None
    parts, search = args.search_shards, args.search
    if search.gpus and not parts:
        raise UserError("gateways have no GPU: with one for search, search_shards must be 1 or more")
    shards = [deployed(Shard, f"shard-{n}", 1, search).bind(n, parts, search.device) for n in range(parts)]
    place = Resources(cpus=0.5, pool=args.place.pool) if encoder else args.place
    gateway = deployed(
        serve.ingress()(Gateway), "gateway", args.gateways, place, user_config=GatewayUserConfig().model_dump()
    )
    return gateway.bind(args, encoder, shards)


def serve_forever(config: Config) -> None:
    """Serve the run's index on ``serve.host:port`` until interrupted.

    Raises:
        UserError: there is nothing to serve, or everybody could ask.
        JobFailed: what there is cannot be served.
    """
    places = {"place": config.cluster.serve, "search": config.cluster.search}
    args = ServeArgs(run_root=config.run.root, **places, **config.serve.model_dump())
    # Before Ray starts, so that the message comes at once.
    finished_index(candidates(args.index, args.run_root)[0])
    if not read_keys(args.keys_file) and not is_loopback(args.host):
        raise UserError(
            f"serve.host {args.host} can be reached from elsewhere: name keys by serve.keys_file, or serve on 127.0.0.1"
        )
    start_ray()
    serve.start(http_options={"host": args.host, "port": args.port}, logging_config=LOGGING)
    try:
        serve.run(build(args), name=APPLICATION, route_prefix="/", blocking=True)
    except RuntimeError:
        application = serve.status().applications[APPLICATION]
        told = NO_INDEX.search("\n".join(deployment.message for deployment in application.deployments.values()))
        if told is None:
            raise
        raise JobFailed(told[1]) from None
