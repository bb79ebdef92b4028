"""Feedback route: what people think of answers."""

from fastapi import APIRouter, Depends

from quintet.registry.feedback import Opinion
from quintet.server.dependencies import Context
from quintet.server.middleware.auth import NEEDS_KEY, Called, require_ask
from quintet.server.schemas.bodies import REFUSED, UNKNOWN_REQUEST, Feedback, FeedbackAnswer

router = APIRouter(
    prefix="/api",
    tags=["feedback"],
    dependencies=[*NEEDS_KEY, Depends(require_ask)],
    responses={**REFUSED, **UNKNOWN_REQUEST},
)


@router.post("/feedback", summary="Say what you think of an answer")
async def feedback(body: Feedback, ctx: Context, caller: Called) -> FeedbackAnswer:
    """Note whether an answer was good, for the version that gave it; again, in place of what was said before."""
    answered = await ctx.answers.find(ctx.project, body.request_id)
    opinion = Opinion(body.rating == "up", body.better_answer, body.comment)
    key_id = caller.key_id
    kept = await ctx.answers.rate(answered, opinion, key_id)
    return FeedbackAnswer(request_id=body.request_id, model=answered.model, rating=body.rating, kept=kept)
