// Keeps the page fresh, and asks in a dialog before something is done. Without it all works, on pages of its own.
"use strict";

(() => {
  const dialog = document.getElementById("ask");
  const state = document.getElementById("live-state");
  let stream = null;

  const STALE_MS = 45000; // the listener speaks every 15 s
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  const bar = document.getElementById("stale");
  let heard = Date.now();

  function tell(text) {
    if (state && state.textContent !== text) state.textContent = text;
  }

  function clock(time) {
    return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  }

  // As `duration` writes it on the server.
  function span(ms) {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
    if (minutes < 1) return `${seconds} s`;
    if (hours < 1) return `${minutes} min`;
    if (days < 1) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
    return `${days} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
  }

  // Ages go on without the server; times are the viewer's, with UTC on hover.
  function tick() {
    for (const one of document.querySelectorAll("time[datetime]")) {
      const at = new Date(one.dateTime);
      const ms = Date.now() - at;
      let text = at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium", hour12: false });
      if ("span" in one.dataset) text = span(ms);
      else if ("clock" in one.dataset && ms < 43200000) text = clock(at); // half a day: which day is plain
      else if ("ago" in one.dataset) text = ms < 0 ? `in ${span(-ms)}` : `${span(ms)} ago`;
      if (one.textContent !== text) one.textContent = text;
    }
    const stale = !document.hidden && bar && Date.now() - heard > STALE_MS;
    if (bar && bar.hidden === stale) {
      bar.hidden = !stale;
      bar.textContent = stale ? `Not live since ${clock(new Date(heard))}: the listener does not answer, or you are not signed in any more.` : "";
    }
    if (stale) tell("");
    listen();
  }

  function hear() {
    heard = Date.now();
    tell("Live.");
    tick();
  }

  function renew() {
    const typing = document.querySelector("#live .filter :focus"); // a fresh form would take what was typed
    if (!dialog.open && !typing) document.body.dispatchEvent(new Event("news"));
  }

  function listen() {
    if (stream || document.hidden) return;
    stream = new EventSource(document.body.dataset.events);
    for (const word of ["ready", "news"]) stream.addEventListener(word, hear);
    stream.addEventListener("news", renew);
    stream.addEventListener("error", () => {
      if (bar.hidden) tell("Not live: the listener does not answer, or you are not signed in any more.");
      if (stream && stream.readyState === EventSource.CLOSED) stream = null;
    });
  }

  document.addEventListener("focusout", (event) => {
    if (event.target.closest("#live .filter")) setTimeout(renew); // the news that came meanwhile
  });

  // A browser has few connections for one address: a hidden page closes its own.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (stream) stream.close();
      stream = null;
    } else {
      heard = Math.max(heard, Date.now() - STALE_MS + 10000); // a hidden page heard nothing
      listen();
      renew();
    }
  });

  // A click shows that it waits.
  function busy(element) {
    if (element) element.setAttribute("aria-busy", "true");
  }
  addEventListener("submit", (event) => busy(event.submitter));
  addEventListener("click", (event) => busy(event.target.closest("a[hx-get]")));
  addEventListener("pageshow", () => document.querySelectorAll("[aria-busy]").forEach((one) => one.removeAttribute("aria-busy")));
  addEventListener("change", (event) => {
    if (event.target.matches(".filter select")) event.target.form.requestSubmit();
  });

  // The server reads a form's times as UTC; people type them in their own zone.
  function useZone(root) {
    for (const input of root.querySelectorAll("input[type=datetime-local][name]")) {
      const sent = document.createElement("input");
      const shift = (text, sign) => {
        const at = new Date(`${text}${sign > 0 ? "" : "Z"}`);
        const other = sign > 0 ? at : new Date(at - at.getTimezoneOffset() * 60000);
        return isNaN(at) ? "" : other.toISOString().slice(0, 16);
      };
      [sent.type, sent.name, sent.value] = ["hidden", input.name, input.value];
      input.value = shift(input.value, -1);
      input.removeAttribute("name");
      input.after(sent);
      input.addEventListener("input", () => (sent.value = shift(input.value, 1)));
    }
    for (const one of root.querySelectorAll(".zone")) one.textContent = timeZone;
  }

  // An error's page, or a proxy's, must not take the place of what is shown: that would never come back.
  document.body.addEventListener("htmx:before:swap", (event) => {
    const { sourceElement, text } = event.detail.ctx;
    if (sourceElement.id === "live" && !text.includes('id="live"')) event.preventDefault();
  });

  document.body.addEventListener("htmx:after:swap", () => {
    document.querySelectorAll("a[aria-busy]").forEach((one) => one.removeAttribute("aria-busy"));
    const live = document.getElementById("live");
    if (live && live.dataset.title) {
      document.title = document.title.replace(/^.*(?= – )/, live.dataset.title);
      const icon = document.getElementById("icon");
      const path = icon.getAttribute("href").replace(/icon-\w+/, `icon-${live.dataset.worst}`);
      if (icon.getAttribute("href") !== path) icon.setAttribute("href", path);
    }
    tick();
    const content = document.getElementById("ask-content");
    useZone(content);
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
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = `Times are in ${timeZone}; UTC on hover.`;
  useZone(document);
  tick();
  setInterval(tick, 5000);
})();
