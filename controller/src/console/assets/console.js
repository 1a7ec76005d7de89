// What the console does better with a script. Every page works without: nothing here is the only way to do something, but
// passkeys, which browsers have for scripts alone. No markup is ever made of text.
"use strict";

const csrf = () => document.querySelector("meta[name=csrf]")?.content ?? "";

/** Asks the public API; the answer, or an Error in the server's words. */
async function ask(method, path, body) {
  const headers = { "X-CSRF-Token": csrf() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch("/api/v1" + path, { method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const text = await answer.text();
  let told = {};
  try { told = text ? JSON.parse(text) : {}; } catch { /* A proxy's page. */ }
  if (!answer.ok) throw new Error(told.detail || "The server did not answer as expected.");
  return told;
}

function toast(text) {
  document.querySelector(".toast")?.remove();
  const box = document.createElement("div");
  box.className = "toast";
  box.setAttribute("role", "status");
  box.append(text, closer(box));
  document.body.append(box);
}

function closer(box) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Close";
  button.addEventListener("click", () => box.remove());
  return button;
}

// Copy buttons.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("done");
    toast("Copied.");
    setTimeout(() => button.classList.remove("done"), 1500);
  } catch {
    toast("The browser does not let this page copy. Select the text instead.");
  }
});

// Menus close by Escape and by a click elsewhere.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll(".menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// A link to a page that asks for confirmation opens it as a dialog; its form is the page's own.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href, { credentials: "same-origin" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const asked = answer.ok && page.querySelector(".confirm");
    if (!asked) throw new Error();
    const dialog = document.createElement("dialog");
    dialog.append(document.importNode(asked, true));
    const title = dialog.querySelector("h1, h2");
    if (title) { title.id ||= "dialog-title"; dialog.setAttribute("aria-labelledby", title.id); }
    dialog.addEventListener("click", (inside) => {
      if (inside.target.closest("[data-close]")) { inside.preventDefault(); dialog.close(); }
    });
    dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
    document.body.append(dialog);
    dialog.showModal();
  } catch {
    location.assign(link.href);
  }
});

// Filters apply when a choice is made; a form is sent once.
for (const select of document.querySelectorAll("form.filters select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post" || event.defaultPrevented) return;
  if (event.target.dataset.sent) return event.preventDefault();
  event.target.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// A part of the page that changes by itself: fetched again every so many seconds, while it is looked at.
for (const part of document.querySelectorAll("[data-refresh]")) {
  const again = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(part.id);
      if (!fresh) return location.reload();
      part.replaceChildren(...document.importNode(fresh, true).childNodes);
      if (!fresh.hasAttribute("data-refresh")) clearInterval(timer);
    } catch { /* The next time. */ }
  };
  const timer = setInterval(again, 1000 * Number(part.dataset.refresh));
}

for (const box of document.querySelectorAll(".toast")) box.append(closer(box));
