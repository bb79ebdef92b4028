"""Routes of files: a document to read, a recording to transcribe.

A file becomes text that goes into the question, as much as there is room for. Nothing of it is kept.
"""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from quintet.data.documents.alone import KINDS
from quintet.errors import QuintetError, RequestError
from quintet.server.api.transcription import transcribe
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, require_quota
from quintet.server.schemas.bodies import OVER_BUDGET, REFUSED, Heard, ReadFile

router = APIRouter(
    prefix="/api",
    tags=["files"],
    dependencies=[*NEEDS_KEY, Depends(require_quota)],
    responses={**REFUSED, **OVER_BUDGET},
)

SECONDS = 30.0
READERS = ThreadPoolExecutor(2, thread_name_prefix="files")
"""Files that are read at once: each may take a core and a gigabyte."""
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""What a reader is told of the environment: no secret is among it."""
FILES_SHARE = 0.75
"""The most of the context that files may take; the rest is for the question and its answer."""


@router.post("/files/read", summary="Read the text of a file, as much as fits beside a question")
async def read_file(
    request: Request,
    ctx: Context,
    name: Annotated[
        str, Query(pattern=r"^[^\x00-\x1f\x7f]{1,255}$", description="The file's name; its end says its kind.")
    ],
    taken: Annotated[int, Query(ge=0, le=10**9, description="Tokens that are taken by others already.")] = 0,
) -> ReadFile:
    """Return the text of a file as Markdown, its tables kept, cut where the context is full."""
    shown = Path(name.replace("\\", "/")).name
    data = await request.body()
    if Path(shown).suffix.lower() not in KINDS:
        raise RequestError(
            f"{shown} is of a kind that cannot be read; expected one of {', '.join(KINDS)}", param="name"
        )
    if not data.strip():
        raise RequestError(f"{shown} is empty")
    found = await asyncio.get_running_loop().run_in_executor(READERS, _read, shown, data)
    if "missing" in found:
        raise QuintetError(f"this server cannot read {shown}: {found['missing']}")
    if "problem" in found:
        raise RequestError(f"{shown} {found['problem']}", code="unreadable_file")
    text, notes = found["text"], found["notes"]
    room = int(ctx.engine.context_length * FILES_SHARE) - taken
    if room < 1:
        raise RequestError(f"there is no room for {shown}: other files and the conversation fill the context already")
    translator = await ctx.catalog.base_translator()
    ids = await asyncio.to_thread(translator.encode_text, text)
    fitting = text if len(ids) <= room else _whole_lines(translator.decode(ids[:room]))
    kept = len(ids) if fitting is text else len(await asyncio.to_thread(translator.encode_text, fitting))
    return ReadFile(name=shown, text=fitting, tokens=kept, tokens_left_out=len(ids) - kept, notes=notes)


def _read(name: str, data: bytes) -> dict[str, Any]:
    command = [sys.executable, "-m", "quintet.data.documents.alone", name]
    told = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    try:
        done = subprocess.run(  # noqa: S603  our own module; the name is no part of a shell's line
            command, input=data, capture_output=True, timeout=SECONDS, check=False, env=told
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"could not be read within {SECONDS:g} s; save a smaller part of it"}
    if done.returncode:
        return {"problem": "cannot be read: it is damaged, or far too large; save it anew"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@router.post("/speech/read", summary="Transcribe a recording")
async def read_speech(request: Request, ctx: Context) -> Heard:
    """Have a recording transcribed by the endpoint that `serving.transcription` names."""
    section = ctx.project.config.serving.transcription
    if section is None:
        raise RequestError("nothing here understands speech; name an endpoint in quintet.yaml: serving.transcription")
    kind = request.headers.get("content-type", "audio/webm")
    return Heard(text=await transcribe(section.settings(), await request.body(), kind))


def _whole_lines(text: str) -> str:
    """Return the text without its last line, which was cut, unless that is most of it."""
    whole = text.rpartition("\n")[0]
    return whole if 2 * len(whole) > len(text) else text.removesuffix("\ufffd")
