"""The bot server: the documented REST channel and conversation endpoints over HTTP.

    app = create_app(conversations, bot=my_bot)

Needs `pip install "ticketlock[server]"`.
"""

from typing import TYPE_CHECKING

from ..imports import late

if TYPE_CHECKING:
    from .app import BotServer, create_app
    from .bot import Bot, Message, Reply, echo
    from .channels import create_channels
    from .handling import Handler
    from .settings import Settings

__all__ = [
    "create_app", "create_channels", "BotServer", "Settings", "Message", "Reply", "Bot", "echo",
    "Handler",
]  # fmt: skip

#: Imported at first use, because the settings are also read without the extra.
_LATE = {
    "Bot": "bot", "BotServer": "app", "Handler": "handling", "Message": "bot", "Reply": "bot",
    "Settings": "settings", "create_app": "app",
    "create_channels": "channels", "echo": "bot",
}  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE, dict.fromkeys(_LATE, "server"))
