// Keeps the page fresh, and asks in a dialog before something is done. Without it all works, on pages of its own.
"use strict";

(() => {
  const dialog = document.getElementById("ask");
  const state = document.getElementById("live-state");
  let stream = null;

  function tell(text) {
    if (state && state.textContent !== text) state.textContent = text;
  }

  function renew() {
    if (!dialog.open) document.body.dispatchEvent(new Event("news"));
  }

  function listen() {
    if (stream || document.hidden) return;
    stream = new EventSource("/events");
    stream.addEventListener("ready", () => tell("Live."));
    stream.addEventListener("news", renew);
    stream.addEventListener("error", () => {
      tell("Not live: the listener does not answer, or you are not signed in any more.");
      if (stream && stream.readyState === EventSource.CLOSED) stream = null;
    });
  }

  // A browser has few connections for one address: a hidden page closes its own.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (stream) stream.close();
      stream = null;
    } else {
      listen();
      renew();
    }
  });

  document.body.addEventListener("htmx:after:swap", () => {
    const content = document.getElementById("ask-content");
    if (content.childElementCount && !dialog.open) {
      dialog.showModal();
      const first = content.querySelector("input:not([type=hidden]), button");
      if (first) first.focus();
    }
  });
  dialog.addEventListener("close", () => {
    document.getElementById("ask-content").replaceChildren();
    renew();
  });
  dialog.addEventListener("click", (event) => {
    const cancel = event.target.closest("[data-close]");
    if (cancel) {
      event.preventDefault();
      dialog.close();
    }
  });

  // The last action is shown once, not again when the page is reloaded.
  const here = new URL(location.href);
  if (here.searchParams.has("did")) {
    here.searchParams.delete("did");
    history.replaceState(null, "", here);
  }
  listen();
})();
