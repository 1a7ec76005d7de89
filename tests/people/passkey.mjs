// A person with a passkey in a real Chromium, whose authenticator is a virtual one (Chrome DevTools Protocol, WebAuthn domain).
//
// usage: node passkey.mjs PLAYWRIGHT CHROMIUM URL USER PASSWORD
// Prints one JSON object: what each step answered.
const [playwright, executablePath, url, user, password] = process.argv.slice(2);
const { chromium } = await import(playwright);

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ bypassCSP: true });
const page = await context.newPage();
const devtools = await context.newCDPSession(page);
await devtools.send('WebAuthn.enable');
const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true };
const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', { options });
await page.goto(`${url}/api/v1/openapi.json`);

await page.evaluate(() => {
  window.csrf = '';
  window.call = async (method, path, body) => {
    const headers = { 'content-type': 'application/json', 'x-csrf-token': window.csrf };
    const answer = await fetch(`/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    const json = text ? JSON.parse(text) : {};
    window.csrf = json.csrf_token ?? json.session?.csrf_token ?? window.csrf;
    return { status: answer.status, body: json };
  };
  window.make = async (options) => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options.publicKey ?? options);
    return (await navigator.credentials.create({ publicKey })).toJSON();
  };
  window.show = async (options) => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey ?? options);
    return (await navigator.credentials.get({ publicKey })).toJSON();
  };
});

const steps = await page.evaluate(async ({ user, password }) => {
  const steps = {};
  const login = await call('POST', '/login', { username: user, password });
  steps.login = login.status;
  const begun = await call('POST', '/account/mfa/passkeys/begin', {});
  steps.begin = begun.status;
  const credential = await make(begun.body.options);
  const added = await call('POST', '/account/mfa/passkeys', { token: begun.body.token, name: 'laptop', credential });
  steps.added = added.status;
  steps.recoveryCodes = added.body.recovery_codes?.length;
  steps.addedTwice = (await call('POST', '/account/mfa/passkeys', { token: begun.body.token, name: 'again', credential })).status;
  steps.logout = (await call('POST', '/logout', {})).status;

  // The password, then the passkey.
  const first = await call('POST', '/login', { username: user, password });
  steps.methods = first.body.second_factor?.methods;
  steps.before = (await call('GET', '/session')).status;
  const shown = await show(first.body.second_factor.passkey_options);
  const second = await call('POST', '/login/second-factor', { token: first.body.second_factor.token, passkey: shown });
  steps.secondFactor = second.status;
  steps.secondFactorUser = second.body.user?.name;
  await call('POST', '/logout', {});
  steps.secondFactorTwice = (await call('POST', '/login/second-factor', { token: first.body.second_factor.token, passkey: shown })).status;

  // The passkey alone.
  const alone = await call('POST', '/login/passkey/begin', {});
  const signed = await show(alone.body.options);
  const inside = await call('POST', '/login/passkey', { token: alone.body.token, credential: signed });
  steps.passwordless = inside.status;
  steps.passwordlessUser = inside.body.user?.name;
  steps.session = (await call('GET', '/session')).status;
  await call('POST', '/logout', {});
  steps.passwordlessTwice = (await call('POST', '/login/passkey', { token: alone.body.token, credential: signed })).status;
  // What was signed for one challenge is not good for another.
  const next = await call('POST', '/login/passkey/begin', {});
  steps.otherChallenge = (await call('POST', '/login/passkey', { token: next.body.token, credential: signed })).status;
  return steps;
}, { user, password });
steps.browser = browser.version();
steps.credentials = (await devtools.send('WebAuthn.getCredentials', { authenticatorId })).credentials.length;
console.log(JSON.stringify(steps));
await browser.close();
