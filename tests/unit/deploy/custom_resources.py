"""As much of KEDA's and of the Prometheus operator's resources as Easel uses; whatever else is misspelled."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, strict=True)


class Metadata(Strict):
    name: str
    namespace: Literal["easel"]
    labels: dict[str, str] = {}


class Target(Strict):
    name: str


class Policy(Strict):
    type: Literal["Percent", "Pods"]
    value: int = Field(gt=0)
    period_seconds: int = Field(gt=0, le=1800)


class Rules(Strict):
    stabilization_window_seconds: int = Field(ge=0, le=3600)
    policies: list[Policy] = Field(min_length=1)
    select_policy: Literal["Max", "Min"] = "Max"


class Behavior(Strict):
    scale_up: Rules
    scale_down: Rules


class AutoscalerConfig(Strict):
    behavior: Behavior


class Advanced(Strict):
    horizontal_pod_autoscaler_config: AutoscalerConfig


class Query(Strict):
    """KEDA takes nothing but text here."""

    server_address: str = Field(pattern=r"^https?://[^/]+$")
    query: str
    threshold: str = Field(pattern=r"^[0-9.]+$")
    ignore_null_values: Literal["true", "false"]


class Trigger(Strict):
    type: Literal["prometheus"]
    metric_type: Literal["AverageValue", "Value"]
    metadata: Query


class ScaledObjectSpec(Strict):
    scale_target_ref: Target
    polling_interval: int = Field(gt=0)
    min_replica_count: int = Field(ge=0)
    max_replica_count: int = Field(gt=0)
    advanced: Advanced
    triggers: list[Trigger] = Field(min_length=1, max_length=1)


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class Selector(Strict):
    match_labels: dict[str, str]


class Endpoint(Strict):
    port: str
    path: str
    interval: str = Field(pattern=r"^\d+s$")


class PodMonitorSpec(Strict):
    selector: Selector
    pod_metrics_endpoints: list[Endpoint] = Field(min_length=1, max_length=1)


class PodMonitor(Strict):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


class PrometheusRuleSpec(Strict):
    #: What `promtool` has looked at.
    groups: list[Any] = Field(min_length=1)


class PrometheusRule(Strict):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec
