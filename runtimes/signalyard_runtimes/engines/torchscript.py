"""TorchScript, from what ``torch.jit.save`` wrote. PyTorch deprecates it in favour of torch.export; models of it are still about."""

import io
import warnings

import torch

from signalyard_runtimes.engines.torch import FEATURES_FILE, TorchEngine, invalid, names, single_thread


def load(artifact: bytes) -> TorchEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    single_thread()
    extra = {FEATURES_FILE: ""}
    try:
        with warnings.catch_warnings():
            # That it is deprecated is for who makes a model, not for who serves it.
            warnings.filterwarnings("ignore", message="`?torch.jit.load", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="`?torch.jit.load", category=FutureWarning)
            module = torch.jit.load(io.BytesIO(artifact), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError, EOFError) as exc:
        first = str(exc).strip().splitlines()[0]
        raise invalid(f"not a model in the form of TorchScript: {first}") from exc
    module.eval()
    return TorchEngine(module, names(extra[FEATURES_FILE]))
