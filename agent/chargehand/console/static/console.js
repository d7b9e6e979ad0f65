// Keeps a page fresh: takes the parts that the server sends and puts them where they belong. Without it, pages read
// and act all the same, and show what was so when they were asked for.
"use strict";

(() => {
  const address = document.body.dataset.live;
  const pulse = document.getElementById("pulse");
  const lost = document.getElementById("lost");
  const waiting = new Map(); // part -> HTML that came while somebody was typing or choosing in it

  const say = (text) => { if (pulse && pulse.textContent !== text) pulse.textContent = text; };

  // What a person has opened, marked, typed or scrolled in a part stays as it is.
  const busy = (element) => {
    const active = document.activeElement;
    return element.querySelector("input:checked") !== null
      || (element.contains(active) && active.matches("input:not([type=checkbox]), select, textarea"));
  };

  const put = (element, html) => {
    const open = [...element.querySelectorAll("details[open][id]")].map((one) => one.id);
    const active = element.contains(document.activeElement) ? trail(element, document.activeElement) : null;
    const scrolled = [...element.querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop, ended(one)]);
    element.innerHTML = html;
    for (const id of open) {
      const found = document.getElementById(id);
      if (found) found.open = true;
    }
    [...element.querySelectorAll(".scroll, pre")].forEach((one, at) => {
      if (scrolled[at]) {
        one.scrollLeft = scrolled[at][0];
        one.scrollTop = scrolled[at][2] ? one.scrollHeight : scrolled[at][1];
      }
    });
    if (active) {
      const found = follow(element, active);
      if (found) found.focus({ preventScroll: true });
    }
  };

  const ended = (one) => one.scrollHeight > one.clientHeight && one.scrollTop + one.clientHeight >= one.scrollHeight - 4;

  // Where an element stands among its kind, to find the one that takes its place.
  const kind = (element) => element.tagName + (element.getAttribute("href") ? `[href="${CSS.escape(element.getAttribute("href"))}"]` : "");
  const trail = (inside, element) => [kind(element), [...inside.querySelectorAll(kind(element))].indexOf(element)];
  const follow = (inside, [which, at]) => inside.querySelectorAll(which)[at];

  const take = (parts) => {
    for (const [id, html] of Object.entries(parts)) {
      const element = document.getElementById(id);
      if (!element) continue;
      if (busy(element)) waiting.set(id, html);
      else { waiting.delete(id); put(element, html); }
    }
  };

  for (const what of ["focusout", "change"]) {
    document.addEventListener(what, () => setTimeout(() => {
      if (waiting.size) take(Object.fromEntries(waiting));
    }));
  }

  // The output of a plan is read from its end.
  for (const one of document.querySelectorAll("pre.output")) one.scrollTop = one.scrollHeight;

  if (!address || !window.EventSource) return;

  let stream = null;
  const stop = () => { if (stream) { stream.close(); stream = null; } };
  const listen = () => {
    stop();
    stream = new EventSource(address);
    stream.addEventListener("parts", (event) => {
      lost.hidden = true;
      take(JSON.parse(event.data));
      say("live");
    });
    stream.addEventListener("lost", (event) => {
      if (lost.hidden) {
        lost.textContent = `Redis cannot be reached: what is shown was so before. ${JSON.parse(event.data)}`;
        lost.hidden = false;
      }
      say("not live");
    });
    stream.addEventListener("gone", (event) => {
      stop();
      lost.textContent = JSON.parse(event.data);
      lost.hidden = false;
      say("not live");
    });
    stream.onerror = () => say(stream && stream.readyState === EventSource.CLOSED ? "not live: load the page again" : "not live: connecting");
  };
  // A page that nobody sees is not kept fresh.
  document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else if (!stream) listen(); });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  if (!document.hidden) listen();
})();
