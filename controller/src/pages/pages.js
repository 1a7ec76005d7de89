// Log in, enrol, approve a device, reset a password: by the public API alone, without a word of HTML made from what it
// answers. The session is in a cookie that this script cannot read.
"use strict";

const $ = (id) => document.getElementById(id);
let session = null;
let pending = null;

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || "The server did not answer as expected.");
    this.status = status;
    this.kind = String(problem.type || "").split(":").pop();
  }
}

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session) headers["X-CSRF-Token"] = session.csrf_token;
  let answer;
  try {
    answer = await fetch("/api/v1" + path, {
      method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const text = await answer.text();
  let told = {};
  try { told = text ? JSON.parse(text) : {}; } catch { /* Not ours: a proxy's page. */ }
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

function say(text, good) {
  const [on, off] = good ? ["status", "message"] : ["message", "status"];
  $(off).hidden = true;
  $(on).textContent = text;
  $(on).hidden = !text;
}

function step(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  const field = document.querySelector("#" + name + " form:not([hidden]) input, #" + name + " button:not([hidden])");
  if (field) field.focus();
}

// What a form or a button does, once at a time, with its failure said.
function does(element, event, deed) {
  if (!element) return;
  element.addEventListener(event, async (happened) => {
    happened.preventDefault();
    if (element.matches("form") && !element.reportValidity()) return;
    const buttons = element.matches("form") ? element.querySelectorAll("button") : [element];
    buttons.forEach((button) => { button.disabled = true; });
    say("");
    try {
      await deed(element);
    } catch (error) {
      say(error.message);
      if (error.kind === "login-ended") restart();
    } finally {
      buttons.forEach((button) => { button.disabled = false; });
    }
  });
}

// Web Authentication: bytes are base64url in JSON.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function named(error) {
  const words = error && error.name === "NotAllowedError" ? "The passkey was not used: it was cancelled, or took too long."
    : error && error.name === "InvalidStateError" ? "This device has a passkey for this account already."
    : "This browser or device cannot use passkeys here.";
  return new Error(words);
}

async function getPasskey(options) {
  const publicKey = { ...options.publicKey, challenge: bytes(options.publicKey.challenge) };
  publicKey.allowCredentials = (publicKey.allowCredentials || []).map((known) => ({ ...known, id: bytes(known.id) }));
  let given;
  try { given = await navigator.credentials.get({ publicKey }); } catch (error) { throw named(error); }
  const { authenticatorData, clientDataJSON, signature, userHandle } = given.response;
  return {
    id: given.id, rawId: text(given.rawId), type: given.type, extensions: {},
    response: {
      authenticatorData: text(authenticatorData), clientDataJSON: text(clientDataJSON), signature: text(signature),
      userHandle: userHandle ? text(userHandle) : null,
    },
  };
}

async function createPasskey(options) {
  const publicKey = { ...options.publicKey, challenge: bytes(options.publicKey.challenge) };
  publicKey.user = { ...publicKey.user, id: bytes(publicKey.user.id) };
  publicKey.excludeCredentials =
    (publicKey.excludeCredentials || []).map((known) => ({ ...known, id: bytes(known.id) }));
  let made;
  try { made = await navigator.credentials.create({ publicKey }); } catch (error) { throw named(error); }
  return {
    id: made.id, rawId: text(made.rawId), type: made.type, extensions: {},
    response: {
      attestationObject: text(made.response.attestationObject), clientDataJSON: text(made.response.clientDataJSON),
      transports: made.response.getTransports ? made.response.getTransports() : [],
    },
  };
}

function restart() {
  [session, pending] = [null, null];
  step("password-step");
}

// Where a session leads: first what must be done, then where it was wanted. Only to a page of ours.
function proceed(now) {
  session = now;
  pending = null;
  if (session.must_change_password) return step("change-step");
  $("current").value = "";
  if (session.must_enrol_mfa) return step("enrol-step");
  const code = new URLSearchParams(location.search).get("device");
  if (code !== null) return location.replace("/device?code=" + encodeURIComponent(code));
  home();
}

function home() {
  $("who").textContent = session.user.name;
  $("where").textContent = session.org ? " in " + session.org : "";
  $("org").replaceChildren(...session.organizations.map((slug) => new Option(slug, slug, false, slug === session.org)));
  $("org-form").hidden = session.organizations.length < 2;
  if (session.recovery_codes_left !== undefined) say("Recovery codes left: " + session.recovery_codes_left, true);
  step("home-step");
}

function factor(told) {
  pending = told;
  const may = (method) => told.methods.includes(method);
  $("code-form").hidden = !may("totp");
  $("passkey-factor").hidden = !may("passkey");
  for (const field of ["code", "recovery"]) $(field).value = "";
  step("factor-step");
}

const show = async (shown) => proceed(await call("POST", "/login/second-factor", { token: pending.token, ...shown }));

function enrolled(change) {
  session = change.session;
  $("secret").textContent = "";
  $("qr").replaceChildren();
  $("totp").hidden = true;
  if (!change.recovery_codes.length) { proceed(session); return say("Added.", true); }
  $("codes").replaceChildren(...change.recovery_codes.map((code) => {
    const item = document.createElement("li");
    item.textContent = code;
    return item;
  }));
  step("codes-step");
}

function draw(svg) {
  const image = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  $("qr").replaceChildren(document.importNode(image, true));
}

function same(form, first, second) {
  if (form[first].value !== form[second].value) throw new Error("The two new passwords are not the same.");
}

function loginPage() {
  does($("password-form"), "submit", async (form) => {
    const given = { username: form.username.value, password: form.password.value };
    const told = await call("POST", "/login", given);
    $("current").value = told.must_change_password ? given.password : "";
    form.password.value = "";
    if (told.second_factor && told.second_factor.token) factor(told.second_factor); else proceed(told);
  });
  does($("passkey-login"), "click", async () => {
    const begun = await call("POST", "/login/passkey/begin");
    const credential = await getPasskey(begun.options);
    proceed(await call("POST", "/login/passkey", { token: begun.token, credential }));
  });
  does($("code-form"), "submit", (form) => show({ code: form.code.value }));
  does($("recovery-form"), "submit", (form) => show({ recovery_code: form.recovery.value }));
  does($("passkey-factor"), "click", async () => show({ passkey: await getPasskey(pending.passkey_options) }));
  does(document.querySelector("[data-restart]"), "click", restart);
  does($("change-form"), "submit", async (form) => {
    same(form, "new", "repeat");
    const now = await call("POST", "/password", { current: form.current.value, new: form.new.value });
    form.reset();
    proceed(now);
    say("The password was changed.", true);
  });
  does($("enrol-totp"), "click", async () => {
    const shown = await call("POST", "/account/mfa/totp");
    draw(shown.svg);
    $("secret").textContent = shown.secret;
    $("totp").hidden = false;
    $("totp-code").focus();
  });
  does($("totp-form"), "submit", async (form) => {
    enrolled(await call("POST", "/account/mfa/totp/confirm", { code: form.code.value.replace(/\s/g, "") }));
    form.reset();
  });
  does($("passkey-form"), "submit", async (form) => {
    const begun = await call("POST", "/account/mfa/passkeys/begin");
    const credential = await createPasskey(begun.options);
    // `form.name` is the form's own name.
    const name = $("passkey-name").value;
    enrolled(await call("POST", "/account/mfa/passkeys", { token: begun.token, name, credential }));
  });
  does($("codes-kept"), "click", () => { $("codes").replaceChildren(); proceed(session); });
  does($("org-form"), "submit", async () => { session = await call("POST", "/session/org", { org: $("org").value }); home(); });
  does($("more-factors"), "click", () => { $("enrol-why").hidden = true; step("enrol-step"); });
  does($("change-password"), "click", () => step("change-step"));
  does($("log-out"), "click", async () => { await call("POST", "/logout"); restart(); say("Logged out.", true); });
}

async function findDevice(code) {
  const waiting = await call("GET", "/device/" + encodeURIComponent(code));
  $("as").textContent = session.user.name;
  $("as-org").textContent = session.org ? " in " + session.org : "";
  $("client").textContent = waiting.client;
  $("address").textContent = waiting.address || "unknown";
  $("since").textContent = new Date(waiting.created_at).toLocaleString();
  $("shown-code").textContent = code;
  step("confirm-step");
}

function devicePage(code) {
  const decide = (verb, words) => async () => {
    await call("POST", "/device/" + encodeURIComponent($("shown-code").textContent) + "/" + verb);
    $("done").textContent = words;
    step("done-step");
  };
  does($("user-code-form"), "submit", (form) => findDevice(form.code.value.trim().toUpperCase()));
  does($("approve"), "click", decide("approve", "The command line is connected. You may close this page."));
  does($("deny"), "click", decide("deny", "The command line was refused."));
  if (code) { $("user-code").value = code; }
}

function resetPage(token) {
  does($("ask-form"), "submit", async (form) => {
    await call("POST", "/password/forgot", { email: form.email.value });
    $("done").textContent = "If there is an account of that address, a mail with a link is on its way.";
    step("done-step");
  });
  does($("reset-form"), "submit", async (form) => {
    same(form, "new", "repeat");
    await call("POST", "/password/reset", { token, new: form.new.value });
    form.reset();
    $("done").textContent = "The password was set. Log in with it.";
    step("done-step");
  });
  step(token ? "reset-step" : "ask-step");
}

async function begin() {
  const query = new URLSearchParams(location.search);
  const page = document.body.dataset.page;
  if (page === "password-reset") {
    // A link that is opened in this very tab changes nothing but what stands behind the hash.
    window.addEventListener("hashchange", () => location.reload());
    const token = new URLSearchParams(location.hash.slice(1)).get("token") || query.get("token");
    // Neither the history nor a screenshot keeps the link's secret.
    if (token) history.replaceState(null, "", "/password-reset");
    return resetPage(token);
  }
  const code = query.get("code") || "";
  if (page === "device") devicePage(code); else loginPage();
  try {
    const now = await call("GET", "/session");
    if (page === "login") return proceed(now);
    session = now;
    if (now.must_change_password || now.must_enrol_mfa) throw new Refused(401, {});
    step("user-code-step");
    if (code) await findDevice(code);
  } catch (error) {
    if (error.status === 401 && page === "device") return location.replace("/login?device=" + encodeURIComponent(code));
    if (page === "login") step("password-step");
    if (error.status !== 401) say(error.message);
  }
}

begin();
