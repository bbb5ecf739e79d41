"""What Ray Serve and the application say to a file of ours. Ray Serve alone would take a key that nobody reads, and a
least number above the most."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from reasonembed.distributed.serve.replicas import GatewayUserConfig, ServeArgs


def check_serve(written: dict[str, Any]) -> ServeDeploySchema:
    _only_known(ServeDeploySchema, written, "")
    schema = ServeDeploySchema.model_validate(written)
    for application in written["applications"]:
        assert application["import_path"] == "serve.app:build"
        args = ServeArgs.model_validate(application["args"])
        there = {
            "gateway",
            *(["encoder"] if args.encoders else []),
            *(f"shard-{number}" for number in range(args.search_shards)),
        }
        for deployment in application.get("deployments", []):
            assert deployment["name"] in there
            if scaling := deployment.get("autoscaling_config"):
                _only_known(AutoscalingConfig, scaling, "autoscaling_config")
                assert scaling["min_replicas"] <= scaling["max_replicas"]
            if deployment["name"] == "gateway":
                GatewayUserConfig.model_validate(deployment.get("user_config", {}))
    return schema


def _only_known(model: type[BaseModel], values: dict[str, Any], where: str) -> None:
    unknown = set(values) - set(model.model_fields)
    assert not unknown, f"Ray Serve reads no {sorted(unknown)} in {where or 'the file'}"
    for name, value in values.items():
        inner = next(iter(_models(model.model_fields[name].annotation)), None)
        for each in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(each, dict):
                _only_known(inner, each, f"{where}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
