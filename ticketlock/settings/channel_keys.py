"""The keys of messaging channels: those of the section `channels`, by channel."""

import re
from typing import Annotated, Any, TypedDict

from .keys import Key


def _url(url: str) -> str | None:
    known = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s#]*)?", url)
    return None if known else "is not a URL: https://host/path, without user and password"


def _bot_token(token: str) -> str | None:
    known = re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", token)
    return None if known else "is not a bot's token: 123456:ABC-DEF, as BotFather gives it"


def _header_token(token: str) -> str | None:
    known = re.fullmatch(r"[A-Za-z0-9_-]{1,256}", token)
    return (
        None
        if known
        else "has other characters than letters, digits, _ and -, which is all Telegram takes"
    )


def _api(url: str) -> Key:
    return Key("address of the API, to put a proxy or a stand-in there", url, check=_url)


def _required(meaning: str, check: Any = None) -> Key:
    return Key(meaning, shown="required", check=check)


class SlackKeys(TypedDict, total=False):
    """Keys of the channel `slack`."""

    signing_secret: Annotated[
        str | None, _required("*Signing Secret* of the app: who signs with it is Slack")
    ]
    bot_token: Annotated[
        str | None, _required("*Bot User OAuth Token*, `xoxb-...`, with the scope `chat:write`")
    ]
    team_id: Annotated[
        str | None,
        Key("the only workspace whose messages are taken: `T...`", shown="any with the app"),
    ]
    use_threads: Annotated[
        bool,
        Key("each message in a channel begins a thread, which is a conversation; false: the "
            "channel is one conversation, and only threads in it are others", True),
    ]  # fmt: skip
    api_url: Annotated[str, _api("https://slack.com/api")]


class TelegramKeys(TypedDict, total=False):
    """Keys of the channel `telegram`."""

    access_token: Annotated[str | None, _required("token of the bot, from BotFather", _bot_token)]
    secret_token: Annotated[
        str | None,
        _required("what `setWebhook` was given as `secret_token`: who sends it is Telegram",
                  _header_token),
    ]  # fmt: skip
    api_url: Annotated[str, _api("https://api.telegram.org")]


class MetaKeys(TypedDict, total=False):
    """Keys of both channels of Meta."""

    app_secret: Annotated[str | None, _required("*App secret*: who signs with it is Meta")]
    verify_token: Annotated[
        str | None, _required("what you enter as *Verify token* beside the callback URL")
    ]
    access_token: Annotated[str | None, _required("token that replies are sent with")]
    api_url: Annotated[str, _api("https://graph.facebook.com/v23.0")]


class WhatsAppKeys(MetaKeys, total=False):
    """Keys of the channel `whatsapp`."""

    phone_number_id: Annotated[
        str | None, _required("*Phone number ID*; messages to another number are ignored")
    ]


class MessengerKeys(MetaKeys, total=False):
    """Keys of the channel `messenger`."""

    page_id: Annotated[str | None, _required("ID of the page; messages to another are ignored")]


class TwilioKeys(TypedDict, total=False):
    """Keys of the channel `twilio`."""

    account_sid: Annotated[str | None, _required("*Account SID*, `AC...`")]
    auth_token: Annotated[str | None, _required("*Auth Token*: who signs with it is Twilio")]
    webhook_url: Annotated[
        str | None,
        _required("the webhook's URL exactly as Twilio has it, because Twilio signs it; behind a "
                  "proxy the server cannot know it", _url),
    ]  # fmt: skip
    api_url: Annotated[str, _api("https://api.twilio.com")]


#: Channel -> its keys.
CHANNEL_KEYS: dict[str, Any] = {
    "slack": SlackKeys,
    "telegram": TelegramKeys,
    "whatsapp": WhatsAppKeys,
    "messenger": MessengerKeys,
    "twilio": TwilioKeys,
}
