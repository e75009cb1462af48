"""What the rules file says of an HTTP destination."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from app.rules.destination import JOB_STEPS, Address, DestinationSettings, Fallback, JobSteps, Routing
from app.rules.values import Whole

ALLOWED_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def _allowed_host(host: str) -> str:
    name = host.lower()
    if not ALLOWED_HOST.fullmatch(name):
        raise ValueError("must be the name of a host, as jobs.example.com, or of all below it, *.example.com")
    return name


AllowedHost = Annotated[str, AfterValidator(_allowed_host)]
WHOLE_ALERT = "{{ .alert }}"
HTTP_QUEUES = 8  # jobs take seconds; so many run at once unless the destination says otherwise


class HttpDestination(DestinationSettings):
    """A job at an HTTP address. Texts in url, headers and body may hold templates: jq in `{{ }}`."""

    templates: ClassVar[tuple[str, ...]] = ("url", "resolve_url", "headers", "body")
    nullable = frozenset({"body"})

    type: Literal["http"]
    """The kind of destination."""
    fallback: Fallback | None = None
    url: Address
    """The address, which may be a template."""
    resolve_url: Address | None = None
    """Where an alert goes whose incident is over, in place of `url`; may be a template."""
    allow_hosts: Annotated[tuple[AllowedHost, ...], Field(min_length=1)] = ()
    """The hosts that a template in `url` may give; `*.example.com` is every host below it."""
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    """The request's method."""
    headers: Annotated[dict[str, SecretStr], Field(default_factory=dict)]
    """Further headers; their values may be templates."""
    body: Any = None
    """The JSON body; texts in it may be templates. Not given: the alert itself; with GET nothing."""
    secret: SecretStr | None = None
    """Signs requests by Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes."""
    allow_private: bool = False
    """Whether addresses that are not public may be called."""
    proxy: Literal["environment", "none"] = "none"
    """Whether HTTPS_PROXY and its like hold for it."""
    digest: bool = False
    """Whether several alerts that wait go out as one request, with a body of its own."""
    queues: Annotated[Whole, Field(ge=1, le=64)] = HTTP_QUEUES
    """How many requests may be in flight."""
    steps: JobSteps = JOB_STEPS

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        texts = [self.url, *self.headers.values()]
        if self.digest and (
            self.template != WHOLE_ALERT
            or self.resolve_url is not None
            or any("{{" in text.get_secret_value() for text in texts)
        ):
            raise ValueError(
                "digest: url and headers must have no templates, and there must be no body and no resolve_url"
            )
        return self

    @property
    def template(self) -> Any:
        """The template of the body; None: the request has none."""
        return WHOLE_ALERT if self.body is None and self.method != "GET" else self.body

    def routing(self) -> Routing:
        """Spread over several queues: a job for one entity does not wait for another entity's."""
        return Routing(queues=self.queues, steps=self.steps, fallback=self.fallback)
