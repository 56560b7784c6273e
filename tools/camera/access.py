"""Who may watch a pretend camera: basic (RFC 7617) and digest (RFC 2069 and RFC 7616) authentication, server side."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass, field

REALM = "pretend camera"


def _hex(algorithm: str, text: str) -> str:
    kind = "sha256" if algorithm == "SHA-256" else "md5"
    return hashlib.new(kind, text.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Access:
    """One user and how they must prove it."""

    user: str = ""  # empty: everybody may watch
    password: str = field(default="", repr=False)
    scheme: str = "digest"  # "basic", "digest" or "both"
    qop: str = "auth"  # "" as cameras of before 1999 still do it (RFC 2069)
    algorithm: str = "MD5"  # or "SHA-256"
    nonce_uses: int = 0  # after so many requests the nonce is stale; 0: never
    _nonce: str = field(default_factory=lambda: os.urandom(8).hex())
    _uses: int = 0

    def challenges(self, *, is_stale: bool = False) -> list[str]:
        """The WWW-Authenticate headers of a 401."""
        said = []
        if self.scheme in ("digest", "both"):
            said.append(
                f'Digest realm="{REALM}", nonce="{self._nonce}"'
                + (f', qop="{self.qop}"' if self.qop else "")
                + (f", algorithm={self.algorithm}" if self.algorithm != "MD5" else "")
                + (", stale=true" if is_stale else "")
            )
        if self.scheme in ("basic", "both"):
            said.append(f'Basic realm="{REALM}"')
        return said

    def verdict(self, method: str, authorization: str) -> str:
        """ "" when the request may pass, "wrong" or "stale" when not."""
        if not self.user:
            return ""
        kind, _, rest = authorization.partition(" ")
        if kind.lower() == "basic" and self.scheme in ("basic", "both"):
            expected = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return "" if rest.strip() == expected else "wrong"
        if kind.lower() == "digest" and self.scheme in ("digest", "both"):
            return self._digest_verdict(method, dict(re.findall(r'(\w+)="?([^",]*)"?', rest)))
        return "wrong"

    def _digest_verdict(self, method: str, given: dict[str, str]) -> str:
        if given.get("nonce") != self._nonce:
            return "stale"
        secret = _hex(self.algorithm, f"{self.user}:{REALM}:{self.password}")
        asked = _hex(self.algorithm, f"{method}:{given.get('uri', '')}")
        if self.qop:
            middle = f"{self._nonce}:{given.get('nc', '')}:{given.get('cnonce', '')}:{given.get('qop', '')}"
        else:
            middle = self._nonce
        if given.get("username") != self.user or given.get("response") != _hex(
            self.algorithm, f"{secret}:{middle}:{asked}"
        ):
            return "wrong"
        self._uses += 1
        if self.nonce_uses and self._uses >= self.nonce_uses:
            self._nonce, self._uses = os.urandom(8).hex(), 0  # the next request finds it stale
        return ""
