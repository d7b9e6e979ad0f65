"""Certificates for servers that speak TLS and nothing else, and want one of whoever comes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chargehand.config.settings import RedisSettings
from support.server import binary

__all__ = ["Tls"]

_ISSUED = (
    *("-CA", "ca.crt", "-CAkey", "ca.key"),
    *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"),
)


class Tls:
    """An authority, and one certificate each for all servers and for all clients."""

    def __init__(self, directory: Path) -> None:
        """Skips the test where the server cannot speak it."""
        linked = subprocess.run(["ldd", binary()], capture_output=True, text=True, check=False).stdout
        if "libssl" not in linked:
            pytest.skip(f"{binary()} is built without TLS")
        directory.mkdir()
        self._directory = directory
        self._certificate("ca")
        for name in ("server", "client"):
            self._certificate(name, *_ISSUED)

    def _certificate(self, name: str, *more: str) -> None:
        openssl = shutil.which("openssl")
        assert openssl is not None, "openssl is needed to make certificates"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.crt", *more),
            ],
            cwd=self._directory,
            check=True,
            capture_output=True,
        )

    def _path(self, name: str) -> str:
        return str(self._directory / name)

    def options(self, port: int) -> dict[str, str]:
        """Of a server or a sentinel that listens there, with its peers too."""
        return {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": self._path("server.crt"),
            "tls-key-file": self._path("server.key"),
            "tls-ca-cert-file": self._path("ca.crt"),
            "tls-auth-clients": "yes",
            "tls-replication": "yes",
            "tls-cluster": "yes",
        }

    @property
    def keys(self) -> dict[str, str]:
        """Of `[redis]`, for a client that knows the authority and shows a certificate of it."""
        files = {"ca_file": "ca.crt", "cert_file": "client.crt", "key_file": "client.key"}
        return {key: self._path(name) for key, name in files.items()}

    def settings(self, url: str) -> RedisSettings:
        return RedisSettings(url=url, **self.keys)  # type: ignore[arg-type]
