"""Draws a fake Slack's channels as a page whose buttons can be clicked: forms, and a little script."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.notifier.slack.markup import rich, rich_part

STYLE = """
body { font: 15px/1.46 system-ui, sans-serif; margin: 0 auto; max-width: 46rem;
  padding: 1rem; color: #1d1c1d }
article { border-left: 4px solid var(--bar, #ddd); margin: 1rem 0; padding: .1rem .8rem }
article p { margin: .4rem 0; white-space: pre-line; overflow-wrap: anywhere }
.small { color: #616061; font-size: 13px } .alone { background: #fff8e1; padding: .5rem .8rem }
.reply { margin-left: 2rem }
form, .actions { display: inline-flex; flex-wrap: wrap; gap: .4rem; margin: .2rem 0 }
button, select, input, .link { font: inherit; padding: .3rem .7rem; border: 1px solid #8a8a8a;
  border-radius: 4px; background: #fff; color: inherit; text-decoration: none; max-width: 100% }
.primary { background: #007a5a; color: #fff; border-color: #007a5a }
"""
SCRIPT = """
setInterval(async () => {
  const busy = document.activeElement.closest("main form, main a");
  if (busy || document.querySelector("dialog")) return;
  const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  const now = document.querySelector("main"), next = page.querySelector("main");
  if (now.innerHTML !== next.innerHTML) now.replaceWith(next);
}, 1000);
"""
PEOPLE = {"U1ADA": "Ada", "U2GRACE": "Grace"}


def channels_page(
    names: Mapping[str, str],
    messages: Sequence[Mapping[str, Any]],
    alone: Sequence[str],
    form: Mapping[str, Any] | None,
) -> str:
    """Draw the channels.

    Args:
        names: Their names by their IDs.
        messages: What stands in them, in order.
        alone: What the person who clicks was told for themselves alone, in Slack's markup.
        form: The form that is open; None: none is.
    """
    drawn = ""
    for id_, name in names.items():
        shown = "".join(_message(message) for message in messages if message["channel"] == id_)
        drawn += f"<h1>#{escape(name)}</h1>{shown or '<p>No message yet.</p>'}"
    told = "".join(
        f'<p class="alone" role="status"><small>Only visible to you</small><br>{_text(text)}</p>'
        for text in alone
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A fake Slack</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style><body>"
        "<p class='small'>A fake Slack: click as you would there.</p>"
        f"<main>{drawn}{told}{_form(form) if form else ''}</main><script>{SCRIPT}</script></body></html>"
    )


def _message(message: Mapping[str, Any]) -> str:
    attached: list[dict[str, Any]] = list(message.get("attachments") or ())
    bar = str(attached[0].get("color")) if attached else "#ddd"
    blocks = [*(message.get("blocks") or ())]
    for part in attached:
        blocks += part.get("blocks") or ()
    body = "".join(_block(message, block) for block in blocks) or f"<p>{_text(message['text'])}</p>"
    reply = ' class="reply"' if message.get("thread_ts", message["ts"]) != message["ts"] else ""
    id_ = f"p{message['ts'].replace('.', '')}"
    return f'<article id="{id_}"{reply} style="--bar: {escape(bar)}">{body}</article>'


def _block(message: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    match block["type"]:
        case "section":
            return f"<p>{_text(block['text']['text'])}</p>"
        case "rich_text":
            parts = (_part(part) for element in block["elements"] for part in element["elements"])
            return f"<p>{''.join(parts)}</p>"
        case "context":
            texts = " | ".join(_text(element["text"]) for element in block["elements"])
            return f'<p class="small">{texts}</p>'
        case "actions":
            elements = "".join(_element(message, block, element) for element in block["elements"])
            return f'<div class="actions">{elements}</div>'
    return ""


def _element(message: Mapping[str, Any], block: Mapping[str, Any], element: Mapping[str, Any]) -> str:
    text = escape((element.get("text") or element.get("placeholder") or {"text": "More"})["text"])
    if "url" in element:
        return f'<a class="link" href="{escape(element["url"])}">{text}</a>'
    hidden = {"ts": message["ts"], "block_id": block.get("block_id", ""), "action_id": element["action_id"]}
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in hidden.items()
    )
    if options := element.get("options"):
        choices = "".join(
            f'<option value="{escape(option["value"])}">{escape(option["text"]["text"])}</option>'
            for option in options
            if "url" not in option
        )
        links = "".join(
            f'<a class="link" href="{escape(option["url"])}">{escape(option["text"]["text"])}</a>'
            for option in options
            if "url" in option
        )
        control = (
            f'<select name="value" required aria-label="{text}"><option value="">{text}</option>'
            f"{choices}</select><button>Choose</button>"
        )
        return f'<form method="post" action="/click">{fields}{control}</form>{links}'
    style = f' class="{escape(element["style"])}"' if "style" in element else ""
    return f'<form method="post" action="/click">{fields}<button{style}>{text}</button></form>'


def _form(view: Mapping[str, Any]) -> str:
    fields = "".join(
        f"<label>{escape(block['label']['text'])} <input name='{escape(block['block_id'])}'"
        f" {'' if block.get('optional') else 'required'}></label>"
        f"<small>{escape(block['hint']['text'])}"
        f" <b role='alert'>{escape(view.get('errors', {}).get(block['block_id'], ''))}</b></small>"
        for block in view["blocks"]
    )
    return (
        f'<dialog open><h2>{escape(view["title"]["text"])}</h2><form method="post" action="/submit">{fields}'
        f'<button class="primary">{escape(view["submit"]["text"])}</button></form>'
        '<form method="post" action="/cancel"><button>Cancel</button></form></dialog>'
    )


def _text(text: str) -> str:
    """Turn Slack's markup into HTML."""
    elements = rich(text)["elements"]
    return "".join(_part(part) for element in elements for part in element["elements"])


def _part(part: Mapping[str, Any]) -> str:
    shown = escape(rich_part(part))
    if part["type"] == "link":
        return f'<a href="{escape(part["url"])}">{shown}</a>'
    for style, tag in (("bold", "b"), ("italic", "i"), ("strike", "s"), ("code", "code")):
        if part.get("style", {}).get(style):
            shown = f"<{tag}>{shown}</{tag}>"
    return shown
