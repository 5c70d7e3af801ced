"""What takes longest begins first, so that no process has it still before it when the others have nothing left."""

_LONG = (
    "runtimes/test_serve_process.py",
    "router/test_contract.py",
    "router/test_router_process.py",
    "bundles/test_stores.py",
    "faults/test_model_server.py",
    "router/test_admin_port.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.path.as_posix().endswith(_LONG))  # and as it was among them and among the rest
