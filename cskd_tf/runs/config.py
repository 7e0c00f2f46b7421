"""What a run is made by, typed: from configs/base.py's form or a `config.json`, checked once, key by key."""

import dataclasses
import json
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeGuard

from cskd_tf.data.batches.pairing import Pairing
from cskd_tf.data.batches.weights import ClassWeights
from cskd_tf.data.catalogue.datasets import SourceOptions, SplitOptions
from cskd_tf.data.images.augmentation import Augmentation
from cskd_tf.errors import UserError
from cskd_tf.runs.earlier_configs import RENAMED
from cskd_tf.serving.runtimes.formats import check_names
from cskd_tf.serving.runtimes.onnx import NEWEST, OLDEST
from cskd_tf.settings import Within, check_value, kinds

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
JitCompile = Literal["auto", "on", "off"]
Strategy = Literal["auto", "single", "mirrored", "multi_worker", "tpu"]
Positive = Annotated[int, Within(1)]
NotNegative = Annotated[float, Within(0, sys.float_info.max)]  # and not infinite

# Keys on which nothing depends that a run computes.
OF_NO_RESULT = (
    "baseline", "verbose", "log_images", "loggers", "profile_steps", "data.source.licence",
    "export.enabled", "export.directory", "export.temperature", "export.coverage", "export.formats", "export.opset",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images: where they are from, how they are split, changed and paired."""

    source: SourceOptions
    split: SplitOptions
    augment: Augmentation
    pairing: Pairing

    def __post_init__(self):
        if len(self.augment.mean) != self.source.channels:
            raise UserError(
                f"Expected a mean for each of {self.source.channels} channels. "
                f"Received: data.augment.mean={self.augment.mean}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network; `networks.check` knows which names, widths and weights there are."""

    name: str
    weights: str
    width: Annotated[int, Within(0, 512)]  # at 512 a ResNet-18 has 700 million weights
    embedding_layer: str
    synchronized: bool
    frozen_epochs: Annotated[int, Within(0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Arguments of `optimizers.make`, which checks the name and what goes with it, and what else moves weights."""

    name: str
    arguments: dict[str, Any]
    momentum: Annotated[float, Within(0, 0.9999)]  # at 1 the first gradient would never fade
    weight_decay: Annotated[float, Within(0, 100)]
    nesterov: bool
    clip_norm: NotNegative
    decay_vectors: bool
    layer_decay: Annotated[float, Within(0.01, 1)]
    ema_momentum: Annotated[float, Within(0, 0.999999)]

    def __post_init__(self):
        if self.nesterov and not self.momentum:
            raise UserError(
                "Expected optimizer.momentum above 0 with optimizer.nesterov, which looks ahead along it. "
                "Received: optimizer.nesterov=True, optimizer.momentum=0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Which of the `SCHEDULES` of `runs.experiment`, and their arguments, which they check."""

    name: Literal["step", "cosine", "constant"]
    learning_rate: Annotated[float, Within(-sys.float_info.max, 1e6)]  # that it is above 0 is for the schedules to say
    milestones: tuple[float, ...]
    factor: Annotated[float, Within(0, 1)]  # 10 in place of 0.1 would be a mistake
    warmup_epochs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How splits are evaluated."""

    batch_size: Positive
    ece_bins: Annotated[int, Within(1, 10_000)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Whether a finished run is exported, where to, and what is fitted for it on validation images."""

    enabled: bool
    directory: str
    temperature: Literal["auto", "off"]
    coverage: Annotated[float, Within(0, 0.9999)]
    formats: Sequence[str]
    opset: Annotated[int, Within(OLDEST, NEWEST)]

    def __post_init__(self):
        check_names(self.formats)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is made by. Keys, defaults and units are those of configs/base.py; `read` makes it."""

    seed: Annotated[int, Within(0, 2**32 - 1)]
    epochs: Annotated[int, Within(1, 1_000_000)]
    batch_size: Positive
    gradient_accumulation_steps: Positive
    steps_per_execution: Positive
    precision: Precision
    jit_compile: JitCompile
    strategy: Strategy
    deterministic: bool
    baseline: bool
    log_images: Annotated[int, Within(0, 1_000_000)]
    loggers: Sequence[str]  # of `LOGGERS` in cskd_tf.runs.loggers, which checks them
    profile_steps: Annotated[int, Within(0, 1000)]
    verbose: Literal[0, 1, 2]
    methods: Sequence[Mapping[str, Any]]  # as `methods.build` takes and checks them
    class_weights: ClassWeights
    data: DataConfig
    network: NetworkConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    evaluation: EvaluationConfig
    export: ExportConfig

    def __post_init__(self):
        if self.network.frozen_epochs > self.epochs:
            raise UserError(
                f"Expected network.frozen_epochs of at most {self.epochs} epochs. "
                f"Received: network.frozen_epochs={self.network.frozen_epochs}"
            )
        if self.jit_compile == "on" and self.deterministic:
            raise UserError(
                "Expected deterministic=False beside jit_compile=on: Keras leaves XLA out where operations have to be "
                "deterministic. Received: deterministic=True"
            )
        if self.class_weights.scheme and self.data.pairing.balanced:
            raise UserError(
                'Expected class_weights.scheme="" beside data.pairing.balanced, which shows all classes equally often '
                f"already. Received: class_weights.scheme={self.class_weights.scheme!r}"
            )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Config":
        """The config of a `ConfigDict` or of nested mappings.

        Raises:
            UserError: keys that are unknown, renamed or missing, values of another type or out of range; with the keys,
                what was expected and what came.
        """
        try:
            plain = json.loads(values.to_json() if hasattr(values, "to_json") else json.dumps(values))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:  # of what JSON has no word for
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"Expected a config of groups, lists, numbers and strings. Received: {why}") from error
        if not isinstance(plain, Mapping):
            raise UserError(f"Expected a config of groups, lists, numbers and strings. Received: {plain!r}")
        if "sweep" in plain:
            raise UserError(f"Expected --mode=sweep for a config of several experiments. Received: {plain['sweep']}")
        unknown, missing = _differences(cls, plain)
        if renamed := {key: RENAMED[key] for key in unknown if key in RENAMED}:
            news = ", ".join(f"{new} instead of {old}" for old, new in renamed.items())
            raise UserError(f"Expected the keys of configs/base.py, of which some were renamed: {news}")
        if unknown:
            raise UserError(f"Unknown config keys; expected those of configs/base.py. Received: {sorted(unknown)}")
        if missing:
            raise UserError(
                f"Expected every config key of configs/base.py. Received: a config without {sorted(missing)}"
            )
        return _typed(cls, plain, name="")

    @property
    def may_change(self) -> set[str]:
        """Keys that may be others when the run goes on: what it computes follows from them by no more than rounding.

        What becomes of a finished run, such as where it is exported to, may be said afterwards.
        On another strategy the order of images and partners, and all that is averaged over a batch, stay the same. But
        a TPU leaves out the smaller last batch of an epoch, and shards depend on the number of replicas.
        """
        depends_on_strategy = self.strategy == "tpu" or self.data.pairing.replica_local
        free = {
            "verbose",
            "loggers",
            "profile_steps",
            "data.source.licence",
            *(f"export.{field.name}" for field in dataclasses.fields(ExportConfig)),
        }
        return free if depends_on_strategy else {*free, "strategy"}

    def as_dict(self) -> dict[str, Any]:
        """What `config.json` holds: plain dictionaries, lists, numbers and strings."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _differences(group: type, values: Mapping[str, Any], *, name: str = "") -> tuple[list[str], list[str]]:
    """Dotted keys that `values` has beyond the fields of a dataclass, and those that it lacks."""
    fields = kinds(group)
    unknown = [name + key for key in values if key not in fields]
    missing = [name + key for key in fields if key not in values]
    for key, kind in fields.items():
        if _is_group(kind) and isinstance(values.get(key), Mapping):
            below = _differences(kind, values[key], name=f"{name}{key}.")
            unknown, missing = unknown + below[0], missing + below[1]
    return unknown, missing


def _is_group(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _typed(kind: Any, value: Any, *, name: str) -> Any:
    """A value as its type has it: dataclasses of mappings, tuples of lists, a float of a whole number."""
    if _is_group(kind):
        if not isinstance(value, Mapping):
            raise UserError(f"Expected {name} to be a group of keys. Received: {name}={value!r}")
        prefix = f"{name}." if name else ""
        return kind(**{key: _typed(below, value[key], name=prefix + key) for key, below in kinds(kind).items()})
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    origin = typing.get_origin(plain) or plain
    if origin is Literal:
        plain = origin = type(typing.get_args(plain)[0])
    expected = list if origin in (tuple, Sequence) else origin
    whole_number = expected is float and type(value) is int
    if type(value) is not expected and not whole_number:
        raise UserError(f"Expected {name} to be {expected.__name__}. Received: {name}={value!r}")
    if origin is tuple and not all(type(item) in (int, float) for item in value):
        raise UserError(f"Expected {name} to hold numbers. Received: {name}={value!r}")
    check_value(kind, value, name=name)
    try:
        if origin is tuple:
            return tuple(float(item) for item in value)
        return tuple(value) if origin is Sequence else origin(value)
    except OverflowError:
        raise UserError(f"Expected {name} to be at most {sys.float_info.max}. Received: {name}={value!r}") from None
