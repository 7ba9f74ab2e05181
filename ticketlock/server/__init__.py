"""The bot server: the documented REST channel and conversation endpoints over HTTP.

    app = create_app(conversations, bot=my_bot)

Needs `pip install "ticketlock[server]"`.
"""

from .app import BotServer, create_app
from .bot import Bot, Message, Reply, echo
from .handling import Handler
from .settings import Settings

__all__ = ["create_app", "BotServer", "Settings", "Message", "Reply", "Bot", "echo", "Handler"]
