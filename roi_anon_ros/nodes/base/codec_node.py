"""A node that does one stage of a codec's work on the newest frames."""

from __future__ import annotations

from roi_anon_ros.codec import DEFAULT_MODEL, Codec
from roi_anon_ros.codec.engines import Stage
from roi_anon_ros.codec.engines.choice import AUTO
from roi_anon_ros.nodes.base.newest import NewestFramesNode


class CodecNode(NewestFramesNode):
    """Loads a model, and says in the diagnostics which it is and what runs it.

    Attributes:
        stage: of the codec's work, which it does.
    """

    stage: Stage
    _codec: Codec | None = None

    def __init__(self) -> None:
        super().__init__()
        self.setting(
            "model", DEFAULT_MODEL, "Name of an installed model, or path of a .safetensors file"
        )
        self.setting(
            "engine",
            "auto",
            "What runs the networks: torch, openvino, openvino-int8, onnxruntime, auto",
        )

    @property
    def codec(self) -> Codec:
        """The loaded model; there is one from :meth:`load` to :meth:`unload`."""
        assert self._codec is not None
        return self._codec

    def load(self) -> None:
        """Load the model."""
        self.say(f"loading model {self.value('model')}")
        self._codec = Codec.load(self.value("model"), self.value("engine"))

    def warm_up(self) -> None:
        """Run the stage once, so that the first frame does not wait for it."""
        name = self.value("engine")
        measured = ", measured where it was not before" if name == AUTO else ""
        self.say(f"running {self.stage} on engine {name}{measured}")
        self.codec.warm_up(self.stage)
        engine = self.codec.engine.runs(self.stage)
        self.get_logger().info(
            f"model {self.codec.name} {self.codec.fingerprint}; {self.stage} on {engine}"
        )

    def unload(self) -> None:
        """Let the model go."""
        self._codec = None

    def describe(self) -> dict[str, str]:
        """Model, fingerprint and engine."""
        codec = self._codec
        if codec is None:
            return {"model": self.value("model"), "fingerprint": "", "engine": self.value("engine")}
        return {
            "model": codec.name,
            "fingerprint": codec.fingerprint,
            "engine": codec.engine.runs(self.stage),
        }
