"""The router and the runtimes in one process, for a strategy without a server: the same journal, the same rules, the same bundles."""

from signalyard_inline.blocking import InlineRouter
from signalyard_inline.opening import AsyncInlineRouter, open_inline
from signalyard_inline.settings import InlineSettings

__all__ = ["AsyncInlineRouter", "InlineRouter", "InlineSettings", "open_inline"]
