"""Launch files without the `launch` package, which is not on PyPI: what of it they use.

As in `launch`, an include sets its arguments in the scope that it stands in, and only a group has
a scope of its own.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@dataclass
class LaunchContext:
    """Launch configurations, and the nodes that were started."""

    configurations: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)


@dataclass
class LaunchDescription:
    entities: list[Any]

    def execute(self, context: LaunchContext) -> None:
        for entity in self.entities:
            entity.execute(context)


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str | None = None
    description: str = ""

    def execute(self, context: LaunchContext) -> None:
        if self.name not in context.configurations:
            assert self.default_value is not None, f"{self.name} is required"
            context.configurations[self.name] = self.default_value


@dataclass
class LaunchConfiguration:
    name: str

    def perform(self, context: LaunchContext) -> str:
        return context.configurations[self.name]


@dataclass
class OpaqueFunction:
    function: Callable[[LaunchContext], list[Any]]

    def execute(self, context: LaunchContext) -> None:
        LaunchDescription(self.function(context)).execute(context)


@dataclass
class GroupAction:
    actions: list[Any]
    scoped: bool = True

    def execute(self, context: LaunchContext) -> None:
        before = dict(context.configurations)
        LaunchDescription(self.actions).execute(context)
        if self.scoped:
            context.configurations = before


@dataclass
class PythonLaunchDescriptionSource:
    location: str


@dataclass
class IncludeLaunchDescription:
    source: PythonLaunchDescriptionSource
    launch_arguments: Iterable[tuple[str, str]] = ()

    def execute(self, context: LaunchContext) -> None:
        for name, value in self.launch_arguments:
            assert isinstance(value, str), f"{name}: {value!r} is no text"
            context.configurations[name] = value
        made = runpy.run_path(self.source.location)["generate_launch_description"]()
        made.execute(context)


class ExecuteLocal:
    def __init__(self, respawn: bool = False, respawn_max_retries: int = -1) -> None:
        raise AssertionError("only its signature is looked at")


@dataclass
class Node:
    package: str
    executable: str
    name: str
    namespace: str = ""
    parameters: list[Any] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    ros_arguments: list[str] = field(default_factory=list)
    output: str = "log"
    respawn: bool = False
    respawn_delay: float = 0.0
    respawn_max_retries: int = -1

    def execute(self, context: LaunchContext) -> None:
        context.nodes.append(self)

    @property
    def files(self) -> list[str]:
        """Its files of parameters."""
        return [entry for entry in self.parameters if isinstance(entry, str)]

    @property
    def values(self) -> dict[str, Any]:
        """Its parameters that are in no file."""
        found: dict[str, Any] = {}
        for entry in self.parameters:
            if isinstance(entry, dict):
                found |= entry
        return found

    def arguments(self) -> list[str]:
        """As the node's process gets them."""
        words = ["--ros-args", "-r", f"__node:={self.name}", "-r", f"__ns:=/{self.namespace}"]
        for file in self.files:
            words += ["--params-file", file]
        for name, value in self.values.items():
            words += ["-p", f"{name}:={value}"]
        return words


MODULES = {
    "launch": (LaunchContext, LaunchDescription),
    "launch.actions": (
        DeclareLaunchArgument,
        ExecuteLocal,
        GroupAction,
        IncludeLaunchDescription,
        OpaqueFunction,
    ),
    "launch.launch_description_sources": (PythonLaunchDescriptionSource,),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (Node,),
}


def launched(monkeypatch: pytest.MonkeyPatch, file: Path, **arguments: str) -> list[Node]:
    """The nodes that ``ros2 launch FILE NAME:=VALUE ...`` starts."""
    with monkeypatch.context() as patch:
        for name, classes in MODULES.items():
            module = ModuleType(name)
            for one in classes:
                setattr(module, one.__name__, one)
            module.LaunchDescriptionEntity = object
            patch.setitem(sys.modules, name, module)
        context = LaunchContext(dict(arguments))
        source = PythonLaunchDescriptionSource(str(file))
        IncludeLaunchDescription(source).execute(context)
    return context.nodes
