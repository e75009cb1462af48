"""What a recipe needs in Port: a small file in its folder, the same as options of bootstrap."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import ListenerError
from app.model.notification import one_line

RECIPES = Path(__file__).parents[3] / "docs/recipes"
NEEDS_FILE = "automations.json"


class RecipeNeeds(BaseModel):
    """The automations of a recipe.

    Attributes:
        blueprint: Blueprints of which Port is to send each change.
        action: Self-service actions of which it is to send the runs.
        timer: Timer properties of these blueprints.
    """

    model_config = ConfigDict(extra="forbid")

    blueprint: list[str] = []
    action: list[str] = []
    timer: list[str] = []


def read_recipe(recipe: str) -> RecipeNeeds:
    """Read what a recipe needs, by its name in docs/recipes or by the path of a folder.

    Raises:
        ListenerError: There is no such recipe, or its file is not as it should be.
    """
    by_name = RECIPES / recipe / NEEDS_FILE
    path = by_name if by_name.is_file() else Path(recipe, NEEDS_FILE)
    shown = one_line(recipe, 80)
    try:
        needs = RecipeNeeds.model_validate_json(path.read_bytes())
    except OSError:
        names = sorted(file.parent.name for file in RECIPES.glob(f"*/{NEEDS_FILE}"))
        known = f"those there are: {', '.join(names)}" if names else "this installation has no docs/recipes"
        raise ListenerError(
            f"There is no recipe {shown}: it is neither a name in docs/recipes nor a folder with a file"
            f" {NEEDS_FILE}; {known}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ListenerError(
            f"{one_line(str(path), 200)} cannot be used: {where or 'it'}: {first['msg']}. It has lists:"
            " blueprint, action, timer"
        ) from None
    if not needs.blueprint and not needs.action:
        raise ListenerError(f"{one_line(str(path), 200)} names no blueprint and no action")
    return needs
