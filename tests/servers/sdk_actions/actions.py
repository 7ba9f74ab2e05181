"""The actions of the tests, for a real action server: rasa_sdk, in an environment of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rasa_sdk import Action, FormValidationAction
from rasa_sdk.events import ActiveLoop, AllSlotsReset, FollowupAction, SlotSet
from rasa_sdk.interfaces import ActionExecutionRejection

#: Where `action_slow` says that it has begun, and finds that it may go on.
FOLDER = Path(os.environ.get("TICKETLOCK_SDK_FOLDER", "."))


class CheckOrder(Action):
    """Says what it knows, in every documented form, and sets a slot."""

    def name(self) -> str:
        return "action_check_order"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        number = tracker.get_slot("order")
        said = tracker.latest_message.get("text")
        dispatcher.utter_message(
            text=f"Order {number} is on its way. You said: {said}",
            buttons=[{"title": "Thanks", "payload": "/thanks"}],
        )
        dispatcher.utter_message(image="http://host/map.png", json_message={"eta": 5}, extra="kept")
        return [SlotSet("state", "sent"), FollowupAction("action_listen")]


class Reject(Action):
    def name(self) -> str:
        return "action_reject"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        raise ActionExecutionRejection(self.name(), "not now")


class Fail(Action):
    def name(self) -> str:
        return "action_fail"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        raise ValueError("the order database is away")


class Slow(Action):
    """Lasts until its file says that it may end."""

    def name(self) -> str:
        return "action_slow"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        (FOLDER / "begun").touch()
        while not (FOLDER / "end").exists():
            time.sleep(0.01)
        dispatcher.utter_message(text="done")
        return []


class Echo(Action):
    """Returns what it was called with, as slots."""

    def name(self) -> str:
        return "action_echo"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        return [
            SlotSet("got_domain", domain),
            SlotSet("got_slots", tracker.current_slot_values()),
            SlotSet("got_events", [event["event"] for event in tracker.events]),
            SlotSet("got_loop", tracker.active_loop),
            SlotSet("got_channel", tracker.get_latest_input_channel()),
        ]


class Stamp(Action):
    """Leaves an image and a slot that say which message it was called for."""

    def name(self) -> str:
        return "action_stamp"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        time.sleep(0.02)  # as an action that asks a service: there is a middle to be killed in
        message = tracker.latest_message["message_id"]
        dispatcher.utter_message(image=f"action {message}")
        return [SlotSet("stamp", message)]


class ValidateBooking(FormValidationAction):
    """A form of two slots: it validates what was set, and asks for what is missing."""

    def name(self) -> str:
        return "validate_booking_form"

    async def required_slots(
        self, domain_slots: Any, dispatcher: Any, tracker: Any, domain: Any
    ) -> list[str]:
        return ["people", "day"]

    def validate_people(
        self, value: Any, dispatcher: Any, tracker: Any, domain: Any
    ) -> dict[str, Any]:
        if str(value).isdigit() and 0 < int(value) < 9:
            return {"people": int(value)}
        dispatcher.utter_message(text=f"A table for {value} is not possible.")
        return {"people": None}


class Submit(Action):
    def name(self) -> str:
        return "action_book"

    def run(self, dispatcher: Any, tracker: Any, domain: Any) -> list[dict[str, Any]]:
        people, day = tracker.get_slot("people"), tracker.get_slot("day")
        dispatcher.utter_message(text=f"A table for {people} on {day} is booked.")
        return [ActiveLoop(None), SlotSet("requested_slot", None), AllSlotsReset()]
