"""Write the digests of other people's images beside their tags, so that a build takes the same bytes again.

    python deploy/pin_images.py            asks the registry, and writes what it says
    python deploy/pin_images.py --check    fails when an image has no digest yet

Needs Docker's client with buildx, and a network; no engine.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = (HERE / "Dockerfile", HERE / "compose.yaml")
IMAGE = re.compile(
    r"^(?P<before> *(?:ARG \w+_IMAGE=|image: ))(?P<tag>[\w./-]+:[\w.-]+)(?P<digest>@sha256:[0-9a-f]{64})?$",
    re.MULTILINE,
)


def ask_registry(tag: str) -> str:
    """Return the digest that a tag stands for now, of its images for all machines together."""
    command = ["docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"]
    digest = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SystemExit(f"{tag}: expected a digest such as sha256:0123..., found {digest!r}")
    return digest


def pin(file: Path) -> None:
    """Put each image's present digest into a file."""
    text = file.read_text("utf-8")
    pinned = IMAGE.sub(lambda found: f"{found['before']}{found['tag']}@{ask_registry(found['tag'])}", text)
    if pinned != text:
        file.write_text(pinned, encoding="utf-8")


def unpinned(file: Path) -> list[str]:
    """Return the images of a file that have no digest."""
    return [f"{file.name}: {found['tag']}" for found in IMAGE.finditer(file.read_text("utf-8")) if not found["digest"]]


def main(arguments: list[str]) -> int:
    """Pin, or check; return the exit code."""
    if arguments == ["--check"]:
        missing = [line for file in FILES for line in unpinned(file)]
        for line in missing:
            print(f"{line} has no digest: python deploy/pin_images.py", file=sys.stderr)
        return bool(missing)
    for file in FILES:
        pin(file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
