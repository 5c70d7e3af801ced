"""A vn.py app that feeds a router's signals into the event engine.

    event_engine = EventEngine()
    main_engine = MainEngine(event_engine)
    main_engine.add_app(SignalyardApp)
    engine = main_engine.get_engine(APP_NAME)
    engine.start(Client("http://127.0.0.1:8090"), "rb2410.SHFE")
    event_engine.register(EVENT_SIGNAL, lambda event: print(event.data))

Our instruments are vn.py's ``vt_symbol``: ``symbol.EXCHANGE``. A handler gets every update as `signalyard.Update`, and one that registers
for ``EVENT_SIGNAL + vt_symbol`` those of one instrument.
"""

import threading
from collections.abc import Collection

from vnpy.event import Event, EventEngine
from vnpy.trader.app import BaseApp
from vnpy.trader.engine import BaseEngine, MainEngine

from signalyard import SignalClient, Subscription

APP_NAME = "Signalyard"
EVENT_SIGNAL = "eSignalyard."
_LOOK_SECONDS = 0.5


class SignalyardEngine(BaseEngine):
    """One subscription, read by a thread of its own, because the event engine's must not wait for a network."""

    def __init__(self, main_engine: MainEngine, event_engine: EventEngine) -> None:
        super().__init__(main_engine, event_engine, APP_NAME)
        self._client: SignalClient | None = None
        self._subscription: Subscription | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self, client: SignalClient, symbols: str | Collection[str] = ()) -> None:
        """Follow the signals of these instruments, or of all. The client is the engine's from now on."""
        self.close()
        self._stopped.clear()
        self._client = client
        self._subscription = client.subscribe(symbols)
        self._thread = threading.Thread(target=self._run, args=(self._subscription,), name=APP_NAME, daemon=True)
        self._thread.start()

    def _run(self, subscription: Subscription) -> None:
        while not self._stopped.is_set():
            update = subscription.next(_LOOK_SECONDS)
            if update is not None:
                self.event_engine.put(Event(EVENT_SIGNAL, update))
                self.event_engine.put(Event(EVENT_SIGNAL + update.symbol, update))

    def close(self) -> None:
        """End the subscription; vn.py calls it when it closes."""
        self._stopped.set()
        if self._subscription is not None and self._client is not None and self._thread is not None:
            self._subscription.close()
            self._thread.join()
            self._client.close()
        self._subscription = self._client = self._thread = None


class SignalyardApp(BaseApp):
    """What `MainEngine.add_app` is given."""

    app_name = APP_NAME
    app_module = __module__
    app_path = None  # it has no window of its own
    display_name = "Signalyard"
    engine_class = SignalyardEngine
    widget_name = ""
    icon_name = ""
