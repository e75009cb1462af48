"""What the API's routes share: how they refuse, their parameters, and what they say of both."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from app.model.notification import one_line
from app.web.actions import MAX_ID
from app.web.api.models import ProblemOut
from app.web.session import get_program

Responses = dict[int | str, dict[str, Any]]

GUARDED: Responses = {
    400: {"model": ProblemOut, "description": "The request's body cannot be read."},
    401: {"model": ProblemOut, "description": "The token is missing or wrong."},
    405: {"model": ProblemOut, "description": "The path has no such method; Allow says which it has."},
    422: {"model": ProblemOut, "description": "A value is missing, or cannot be."},
    429: {"model": ProblemOut, "description": "Too many wrong tokens. Try again after Retry-After."},
    503: {"model": ProblemOut, "description": "The store cannot be read or written now."},
}
MAX_PROBLEM_CHARS = 1_000
NOT_FOUND: Responses = {404: {"model": ProblemOut, "description": "There is no such thing."}}
FOR_AN_ACTION: Responses = NOT_FOUND | {
    409: {"model": ProblemOut, "description": "It is not in a state in which that can be done."}
}


Number = Annotated[int, Path(gt=0, le=MAX_ID)]
Before = Annotated[str | None, Query(description="A page's `next`.", max_length=300)]
Pattern = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]


class _Route(APIRoute):
    """A route whose every refusal has one shape: `ProblemOut`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                wrong = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
                raise HTTPException(422, one_line("; ".join(wrong), MAX_PROBLEM_CHARS)) from None

        return handler


async def demand_text(request: Request) -> None:
    """Refuse half a surrogate pair, which JSON can escape and no answer, store or log can encode.

    Raises:
        HTTPException: 422.
    """
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HTTPException(422, "The body holds text that is not Unicode.") from None
    except (ValueError, RecursionError):
        return  # not JSON, or nested endlessly: the framework refuses it


def make_router() -> APIRouter:
    """Make a router whose routes want the token, and refuse in one shape."""
    return APIRouter(
        prefix="/api/v1", dependencies=[Depends(get_program)], responses=GUARDED, route_class=_Route
    )
