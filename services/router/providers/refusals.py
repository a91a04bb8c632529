"""What a request is told that a codec will not send on: one sentence that names the field; pure."""

from services.router.providers.port import Failure, ProviderError


def unsupported(param: str, what: str = "is not supported by this deployment") -> ProviderError:
    """Return the refusal of something that another deployment may take."""
    return ProviderError(Failure.UNSUPPORTED, f"{param} {what}.", status=400, param=param)


def rejected(param: str, what: str = "has a value that the model does not take") -> ProviderError:
    """Return the refusal of something that no deployment would take."""
    return ProviderError(Failure.REJECTED, f"{param} {what}.", status=400, param=param)
