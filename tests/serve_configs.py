"""Checks of ``serve/*.yaml`` against Ray Serve's schema and the application's own settings.

Ray Serve itself accepts unknown keys, and a minimum number of replicas above the maximum.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from reasonembed.distributed.serve.application_args import GatewayUserConfig, ServeArgs


def check_serve(config: dict[str, Any]) -> ServeDeploySchema:
    """Checks a Serve config file; returns it as Ray Serve's schema."""
    _check_keys(ServeDeploySchema, config, "")
    schema = ServeDeploySchema.model_validate(config)
    for application in config["applications"]:
        assert application["import_path"] == "serve.app:build"
        args = ServeArgs.model_validate(application["args"])
        deployments = {
            "gateway",
            *(["encoder"] if args.encoders else []),
            *(f"shard-{number}" for number in range(args.search_shards)),
        }
        for deployment in application.get("deployments", []):
            assert deployment["name"] in deployments
            if scaling := deployment.get("autoscaling_config"):
                _check_keys(AutoscalingConfig, scaling, "autoscaling_config")
                assert scaling["min_replicas"] <= scaling["max_replicas"]
            if deployment["name"] == "gateway":
                GatewayUserConfig.model_validate(deployment.get("user_config", {}))
    return schema


def _check_keys(model: type[BaseModel], values: dict[str, Any], path: str) -> None:
    unknown = set(values) - set(model.model_fields)
    assert not unknown, f"Ray Serve has no keys {sorted(unknown)} in {path or 'the file'}"
    for name, value in values.items():
        nested_model = next(iter(_models(model.model_fields[name].annotation)), None)
        for item in value if isinstance(value, list) else [value]:
            if nested_model is not None and isinstance(item, dict):
                _check_keys(nested_model, item, f"{path}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
