"""By which code a run is trained and exported."""

import functools
import pathlib
import subprocess

import cskd_tf

NOT_KNOWN = "not known"


def code() -> str:
    """Version and commit of this package, as they were when this process first asked."""
    return f"cskd_tf {cskd_tf.__version__}, commit {commit(pathlib.Path(cskd_tf.__file__).parent) or NOT_KNOWN}"


@functools.cache
def commit(package: pathlib.Path) -> str:
    """The commit of a package that lies in a checkout of its own, with `-dirty` where it differs; else empty."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed package lies in somebody else's checkout
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
