"""The Ray cluster: one that is there, or one of our own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

# Lets a node of Ray 2.60 listen on the loopback interface alone: asked for 127.0.0.1, it takes
# the machine's outward address and listens on all interfaces (findings/ray-loopback.sh).
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


class ClusterError(Exception):
    """The cluster cannot be reached or started."""


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def has_token() -> bool:
    """Whether Ray finds a token."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return (Path.home() / ".ray" / "auth_token").is_file()


def connect(address: str, listen: str | None) -> None:
    """Connects to a cluster, or starts one for ``local``.

    One that is started asks for a token, and listens on the loopback interface, or at the
    address ``listen``.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        os.environ["RAY_AUTH_MODE"] = "token"
        # Ray's default is 15 (findings/ray-worker-niceness.sh).
        os.environ.setdefault("RAY_worker_niceness", "0")
        if listen is None:
            os.environ[LOOPBACK[0]] = LOOPBACK[1]
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        elif not has_token():
            raise ClusterError(
                "--listen needs a token that the other machines have, too: "
                "'ray get-auth-token --generate'"
            )
    elif listen is not None:
        raise ClusterError("--listen is for --address local")
    # Ray reads its settings when it is imported.
    import ray

    options = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"include_dashboard": False}
        if listen is not None:
            options |= {"_node_ip_address": listen}
    try:
        ray.init(address=address, **options)
    except Exception as error:
        # Ray raises many kinds.
        text = first_line(error)
        raise ClusterError(f"cannot reach the Ray cluster '{address}': {text}") from None
    place = ray.get_runtime_context().gcs_address
    if listen is not None:
        print(f"other machines join with: RAY_AUTH_MODE=token ray start --address={place}")
    host = place.rsplit(":", 1)[0]
    if address == "local" and listen is None and host != "127.0.0.1":
        ray.shutdown()
        raise ClusterError(f"Ray listens on {host} instead of 127.0.0.1")
