"""Who calls over gRPC: a key among the metadata, or a client certificate that stands for one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from grpc import aio
from multidict import CIMultiDict
from pydantic import SecretStr

from gateway.credentials import credential
from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError

Context: TypeAlias = aio.ServicerContext[Any, Any]
_ALTERNATIVE = "x509_subject_alternative_name"
_COMMON = "x509_common_name"
_log = structlog.get_logger("gateway.grpc")


class Identities:
    """Turns a call's metadata and certificate into the headers that HTTP would have brought.

    Args:
        keys: The API key that a certificate stands for, by the name in the certificate.
    """

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        self._keys = keys

    def headers(self, context: Context) -> CIMultiDict[str]:
        """Return the call's metadata, with the key that its certificate stands for.

        Raises:
            TurnpikeError: `BAD_REQUEST` when the certificate stands for another key than the one
                that was sent, or for several.
        """
        pairs = context.invocation_metadata() or ()
        headers = CIMultiDict((name, value) for name, value in pairs if isinstance(value, str))
        key = self._key(context) if self._keys else ""
        if not key:
            return headers
        if ("authorization" in headers or "x-api-key" in headers) and credential(headers) != key:
            raise TurnpikeError(
                Reason.BAD_REQUEST,
                "The client certificate stands for another key than the one sent; send one.",
            )
        headers["authorization"] = f"Bearer {key}"
        headers.popall("x-api-key", None)
        return headers

    def _key(self, context: Context) -> str:
        names = _names(context.auth_context())
        found = {self._keys[name].get_secret_value() for name in names if name in self._keys}
        if len(found) > 1:
            raise TurnpikeError(
                Reason.BAD_REQUEST, "The client certificate stands for several keys."
            )
        return found.pop() if found else ""


def _names(found: Mapping[str, Any]) -> list[str]:
    """Return what a verified certificate says of its owner.

    The common name counts only where there is no other. Source: RFC 6125, section 6.4.4.
    """
    names = found.get(_ALTERNATIVE) or found.get(_COMMON) or ()
    return [name.decode("utf-8", "replace") for name in names]


def server_credentials(settings: GatewaySettings) -> grpc.ServerCredentials | None:
    """Return the gRPC port's certificate, read anew when its files change; None for plain text.

    Raises:
        OSError: A file cannot be read.
    """
    if settings.grpc_tls_cert is None or settings.grpc_tls_key is None:
        return None
    files = _Files(settings.grpc_tls_cert, settings.grpc_tls_key, settings.grpc_client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.changed,  # type: ignore[arg-type] # None keeps what there is, says gRPC's text
        require_client_authentication=files.has_client_ca,
    )


class _Files:
    """Certificate, key and client CA on disk; asked for each new connection, by gRPC's threads."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = tuple(path for path in (cert, key, client_ca) if path is not None)
        self._stamps: list[int] = []
        self.has_client_ca = client_ca is not None

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files hold now."""
        self._stamps = self._now()
        cert, key, *client_ca = (path.read_bytes() for path in self._paths)
        return grpc.ssl_server_certificate_configuration(
            [(key, cert)], root_certificates=client_ca[0] if client_ca else None
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold if that is new; what cannot be read changes nothing."""
        try:
            return None if self._now() == self._stamps else self.read()
        except OSError as error:
            _log.warning("certificate_not_read", file=str(error.filename))
            return None

    def _now(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in self._paths]
