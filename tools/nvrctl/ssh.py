"""Commands on a box, by SSH with keys only. The system's own `ssh` does it, with its agent and its known hosts."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nvr.errors import NvrError

CONNECT_S = 15


class SshFailed(NvrError):
    """The box could not be entered, or its command failed."""


@dataclass(frozen=True, slots=True)
class Shell:
    """How a box is entered."""

    host: str
    user: str = "root"
    port: int = 22
    key: Path | None = None

    def command(self, remote: Sequence[str] | str) -> list[str]:
        """What is run here. A list is quoted for the other side's shell, a text goes as it is."""
        options = [
            "-o", "BatchMode=yes", "-o", "PasswordAuthentication=no", "-o", f"ConnectTimeout={CONNECT_S}",
            # A box makes its key at the first start, so the first one is taken; another one later is refused by ssh.
            "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known_hosts()}", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
        ]  # fmt: skip
        if self.key is not None:
            options += ["-i", str(self.key), "-o", "IdentitiesOnly=yes"]
        text = remote if isinstance(remote, str) else shlex.join(remote)
        return ["ssh", *options, "-p", str(self.port), "-l", self.user, "--", self.host, text]

    def run(self, remote: Sequence[str] | str, *, data: bytes | None = None, timeout_s: float = 120) -> str:
        """What the command prints. Raises SshFailed."""
        try:
            done = subprocess.run(
                self.command(remote),
                input=data,
                stdin=None if data is not None else subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise SshFailed("there is no ssh here", hint="sudo apt install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise SshFailed(
                f"{self.host} has not answered for {timeout_s:.0f} s",
                hint="Its link may be slow, or it is busy: try again.",
            ) from None
        if done.returncode != 0:
            raise self._failed(done.returncode, done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode("utf-8", "replace")

    def follow(self, remote: Sequence[str] | str) -> int:
        """Run with this terminal's output until it ends or Ctrl-C. Raises SshFailed where ssh itself failed."""
        try:
            status = subprocess.run(self.command(remote), stdin=subprocess.DEVNULL, check=False).returncode
        except FileNotFoundError:
            raise SshFailed("there is no ssh here", hint="sudo apt install openssh-client") from None
        if status == 255:
            raise self._failed(255, "")
        return status

    def send(self, path: Path, remote_path: str, *, timeout_s: float = 3600) -> None:
        """Copy a file to the box, whole or not at all. Raises SshFailed."""
        draft = f"{remote_path}.part"
        with open(path, "rb") as file:
            try:
                done = subprocess.run(
                    self.command(f"cat > {shlex.quote(draft)} && sync {shlex.quote(draft)} && mv {shlex.quote(draft)} {shlex.quote(remote_path)}"),
                    stdin=file, capture_output=True, timeout=timeout_s, check=False,
                )  # fmt: skip
            except FileNotFoundError:
                raise SshFailed("there is no ssh here", hint="sudo apt install openssh-client") from None
            except subprocess.TimeoutExpired:
                raise SshFailed(
                    f"{path.name} was not there after {timeout_s:.0f} s", hint="The link is slow: try again."
                ) from None
        if done.returncode != 0:
            raise self._failed(done.returncode, done.stderr.decode("utf-8", "replace"))

    def _failed(self, status: int, stderr: str) -> SshFailed:
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")[:300]
        if "Permission denied" in stderr:
            return SshFailed(
                f"{self.host} does not let {self.user} in with this key",
                hint="The card takes the key: `nvrctl card write ... --ssh-key ~/.ssh/id_ed25519.pub`.",
            )
        if "HOST IDENTIFICATION HAS CHANGED" in stderr or "Host key verification failed" in stderr:
            return SshFailed(
                f"{self.host} shows another key than last time",
                hint=f"If its card was written anew: ssh-keygen -f {known_hosts()} -R {self.host}. Otherwise find out who answers there.",
            )
        if status == 255:
            return SshFailed(
                f"no way into {self.host}: {last or 'ssh failed'}",
                hint="Is the box on, and on this network? Without a key on its card, SSH does not start.",
            )
        return SshFailed(f"on {self.host}: {last or f'status {status}'}", hint="`nvrctl box logs` may say more.")


def known_hosts() -> Path:
    """Apart from the person's own: boxes move between addresses."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "nvrctl"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "known_hosts"
