// What the console does better with a script. Every page works without: nothing here is the only way to do something, but
// passkeys, which browsers have for scripts alone. No markup is ever made of text.
"use strict";

const csrf = () => document.querySelector("meta[name=csrf]")?.content ?? "";

/** Asks the public API; the answer, or an Error in the server's words. */
async function ask(method, path, body, token = csrf()) {
  const headers = { "X-CSRF-Token": token };
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

// Passkeys: a form that a script shows, fills with what the browser's authenticator says, and sends as any other. Its options
// are in the page, or the API gives them. Bytes are base64url in JSON.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text64 = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const ids = (list) => (list || []).map((known) => ({ ...known, id: bytes(known.id) }));

async function getPasskey({ publicKey }) {
  const { id, rawId, type, response } = await navigator.credentials.get({
    publicKey: { ...publicKey, challenge: bytes(publicKey.challenge), allowCredentials: ids(publicKey.allowCredentials) },
  });
  const { authenticatorData, clientDataJSON, signature, userHandle } = response;
  return {
    id, rawId: text64(rawId), type, extensions: {},
    response: {
      authenticatorData: text64(authenticatorData), clientDataJSON: text64(clientDataJSON), signature: text64(signature),
      userHandle: userHandle ? text64(userHandle) : null,
    },
  };
}

async function createPasskey({ publicKey }) {
  const { id, rawId, type, response } = await navigator.credentials.create({
    publicKey: {
      ...publicKey, challenge: bytes(publicKey.challenge), user: { ...publicKey.user, id: bytes(publicKey.user.id) },
      excludeCredentials: ids(publicKey.excludeCredentials),
    },
  });
  return {
    id, rawId: text64(rawId), type, extensions: {},
    response: {
      attestationObject: text64(response.attestationObject), clientDataJSON: text64(response.clientDataJSON),
      transports: response.getTransports ? response.getTransports() : [],
    },
  };
}

const PASSKEY_TROUBLE = {
  NotAllowedError: "The passkey was not used: it was cancelled, or took too long.",
  InvalidStateError: "This device has a passkey for this account already.",
  SecurityError: "Passkeys belong to this server's name: open it by the address that its mails use.",
  NotSupportedError: "This browser or device cannot use passkeys here.",
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.hidden = !window.PublicKeyCredential;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [button, wrong] = [form.querySelector("button"), form.querySelector(".wrong")];
    button.disabled = true;
    wrong.hidden = true;
    try {
      let options = form.dataset.options && JSON.parse(form.dataset.options);
      if (!options) {
        const begun = await ask("POST", form.dataset.begin, undefined, form.dataset.csrf);
        form.elements.token.value = begun.token;
        options = begun.options;
      }
      const credential = await (form.dataset.passkey === "create" ? createPasskey : getPasskey)(options);
      form.elements.credential.value = JSON.stringify(credential);
      form.submit();
    } catch (error) {
      wrong.textContent = PASSKEY_TROUBLE[error.name] || error.message;
      wrong.hidden = false;
      button.disabled = false;
    }
  });
}
// Whoever comes back finds the button as it was.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[data-passkey] button")) button.disabled = false;
});

// The secret in a mailed link stands behind the #, so that no server and no log sees it. It goes into the field that takes it,
// and out of the address, so that neither the history nor a screenshot keeps it.
for (const field of document.querySelectorAll("[data-fragment]")) {
  const take = () => {
    const value = new URLSearchParams(location.hash.slice(1)).get(field.dataset.fragment);
    if (!value) return;
    history.replaceState(null, "", location.pathname);
    field.value = value;
    field.closest(".field").hidden = true;
    for (const part of document.querySelectorAll("[data-no-fragment]")) part.hidden = true;
    const more = field.closest("details");
    if (more) { more.open = true; more.querySelector("summary").hidden = true; }
    field.form.querySelector("input[type=password]")?.focus();
  };
  take();
  window.addEventListener("hashchange", take);
}

// Copy buttons.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-of]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy ?? document.getElementById(button.dataset.copyOf).textContent);
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

// A part of the page that changes by itself: fetched again every so many seconds, while it is looked at. That is no use of
// the session, so it says so; where the session ended meanwhile, the page does not stay.
for (const part of document.querySelectorAll("[data-refresh]")) {
  const again = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { "X-Refresh": "1" } });
      if (answer.redirected) return location.reload();
      if (!answer.ok) return;
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
