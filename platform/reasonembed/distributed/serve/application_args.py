"""Arguments of the Ray Serve application, and the settings that can change while it runs."""

from pydantic import BaseModel, ConfigDict, Field

from reasonembed.config import Resources, Serve


class ServeArgs(Serve):
    """Arguments of the application: the section ``serve`` of a configuration, and the run whose index is served."""

    run_root: str = "runs/quickstart"
    """Root of a finished pipeline run."""
    resources: Resources = Field(Resources(), alias="place")
    """What an encoder requests from Ray; gateways beside encoders use the same pool, without its GPUs."""
    search: Resources = Resources(cpus=0.5)
    """What each of ``search_shards`` requests from Ray; with a GPU it searches there."""


class GatewayUserConfig(BaseModel):
    """``user_config`` of the gateway: settings that can change while it runs."""

    model_config = ConfigDict(extra="forbid")

    index: str | None = None
    """Folder of a finished index; takes precedence over the arguments."""
