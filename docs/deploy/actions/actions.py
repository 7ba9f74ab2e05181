"""An example of custom actions, for the service `app`: `await turn.run_action("action_hello")`."""

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.executor import CollectingDispatcher


class Hello(Action):
    def name(self) -> str:
        return "action_hello"

    def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        dispatcher.utter_message(text=f"You said: {tracker.latest_message.get('text')}")
        return []
