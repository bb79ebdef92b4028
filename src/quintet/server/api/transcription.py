"""Transcription: a recording to text, by an OpenAI-compatible endpoint. Keeps nothing."""

import httpx

from quintet.config.endpoint import EndpointSettings
from quintet.errors import EndpointError

TIMEOUT = httpx.Timeout(60, connect=5)


async def transcribe(settings: EndpointSettings, recording: bytes, kind: str) -> str:
    """Return what was said in a recording of that media type; raise EndpointError."""
    plain = kind.partition(";")[0].strip().lower()
    name = f"recording.{plain.partition('/')[2] or 'webm'}"  # endpoints go by the end of the name
    headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, headers=headers) as client:
            answer = await client.post(
                settings.transcriptions_url, files={"file": (name, recording, plain)}, data={"model": settings.model}
            )
            answer.raise_for_status()
            return str(answer.json()["text"])
    except httpx.HTTPStatusError as error:
        raise EndpointError(
            f"the {settings.role} at {settings.shown_url} answered {error.response.status_code}"
        ) from None
    except httpx.HTTPError as error:
        raise EndpointError(f"the {settings.role} at {settings.shown_url} failed: {type(error).__name__}") from None
    except (ValueError, KeyError, TypeError):
        raise EndpointError(f"the {settings.role} at {settings.shown_url} answered what cannot be read") from None
