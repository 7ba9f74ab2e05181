"""Events of flows and agents. They are stored and published, and do not change the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .event import Event


@dataclass(frozen=True, eq=False)
class DialogueStackUpdated(Event):
    """The dialogue stack changed; `update` is a JSON patch as text."""

    type_name = "stack"

    update: str


@dataclass(frozen=True, eq=False)
class FlowStarted(Event):
    type_name = "flow_started"

    flow_id: str


@dataclass(frozen=True, eq=False)
class _FlowStep(Event):
    flow_id: str
    step_id: str | None = None


@dataclass(frozen=True, eq=False)
class FlowInterrupted(_FlowStep):
    type_name = "flow_interrupted"


@dataclass(frozen=True, eq=False)
class FlowResumed(_FlowStep):
    type_name = "flow_resumed"


@dataclass(frozen=True, eq=False)
class FlowCompleted(_FlowStep):
    type_name = "flow_completed"


@dataclass(frozen=True, eq=False)
class FlowCancelled(_FlowStep):
    type_name = "flow_cancelled"


@dataclass(frozen=True, eq=False)
class RoutingSessionEnded(Event):
    type_name = "routing_session_ended"


@dataclass(frozen=True, eq=False)
class SessionEnded(Event):
    type_name = "session_ended"


@dataclass(frozen=True, eq=False)
class ErrorHandled(Event):
    """The bot handled an error and went on."""

    type_name = "error"

    error_code: Any = None


@dataclass(frozen=True, eq=False)
class _AgentStep(Event):
    agent_id: str
    flow_id: str | None = None


@dataclass(frozen=True, eq=False)
class AgentStarted(_AgentStep):
    type_name = "agent_started"


@dataclass(frozen=True, eq=False)
class AgentInterrupted(_AgentStep):
    type_name = "agent_interrupted"


@dataclass(frozen=True, eq=False)
class AgentResumed(_AgentStep):
    type_name = "agent_resumed"


@dataclass(frozen=True, eq=False)
class AgentCompleted(_AgentStep):
    type_name = "agent_completed"

    status: str | None = None


@dataclass(frozen=True, eq=False)
class AgentCancelled(_AgentStep):
    type_name = "agent_cancelled"

    reason: str | None = None
