"""scikit-learn, from what ``skops.io.dump`` wrote: a form that says what is in it before anything of it is made, and runs no code."""

import zipfile

import skops.io

from signalyard.problems import Problem, error
from signalyard_runtimes.engines import sklearn


def load(artifact: bytes) -> sklearn.SklearnEngine:
    """Raises ModelError (bundle_artifact_invalid), also where it holds a type that is not known to be harmless."""
    try:
        # Of scikit-learn, numpy and Python alone: what a maker declares to be trusted, nobody here has looked at.
        strange = skops.io.get_untrusted_types(data=artifact)
        model = None if strange else skops.io.loads(artifact, trusted=[])
    except zipfile.BadZipFile as exc:
        raise error(Problem.BUNDLE_ARTIFACT_INVALID, f"not a file of skops: {exc}", "/artifact") from exc
    except Exception as exc:  # skops builds objects from what it reads, and they may raise anything
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID, f"skops cannot load it: {type(exc).__name__}: {exc}", "/artifact"
        ) from exc
    if strange:
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID,
            f"it holds {', '.join(sorted(strange))}, and only types of scikit-learn and numpy are known to run no code",
            "/artifact",
        )
    return sklearn.around(model)
