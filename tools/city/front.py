"""TLS in front of the hub for its boxes, as nginx or caddy stand there in a city: a certificate of its own, named by its fingerprint.

Boxes refuse a hub without TLS. Browsers on the same laptop speak to the hub directly, which needs no exception for a certificate nobody signed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import os
import ssl
import sys
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

PIECE_BYTES = 64 * 1024


def certificate(folder: Path) -> tuple[Path, str]:
    """Certificate and key in one file, made once; its path and its SHA-256 as a site file names it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / "front.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub of the demo")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text + made.public_bytes(serialization.Encoding.PEM))
    found = x509.load_pem_x509_certificate(path.read_bytes())
    return path, sha256(found.public_bytes(serialization.Encoding.DER)).hexdigest()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()


async def serve(port: int, hub_port: int, pem_path: Path) -> None:
    """Pass every connection on, until cancelled."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem_path)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_hub = await asyncio.open_connection("127.0.0.1", hub_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, to_hub[1]), _copy(to_hub[0], writer))

    server = await asyncio.start_server(one, "127.0.0.1", port, ssl=context)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.city.front", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--hub-port", type=int, required=True)
    parser.add_argument("--pem", type=Path, required=True)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.hub_port, options.pem))
    return 0


if __name__ == "__main__":
    sys.exit(main())
