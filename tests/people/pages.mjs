// A person at the pages of the controller, in a real Chromium with a virtual authenticator: first log-in with a temporary
// password, a passkey, a log-in by it alone, a command line let in, and a new password by a link.
//
// usage: node pages.mjs PLAYWRIGHT CHROMIUM URL USER TEMPORARY PASSWORD DEVICE-LINK RESET-LINK NEW-PASSWORD
const [playwright, executablePath, url, user, temporary, password, device, reset, next] = process.argv.slice(2);
const { chromium } = await import(playwright);

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext();
const page = await context.newPage();
page.setDefaultTimeout(15_000);
const complaints = [];
page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('request', (request) => request.url().startsWith(url) || request.url().startsWith('data:') || complaints.push(`foreign: ${request.url()}`));
const devtools = await context.newCDPSession(page);
await devtools.send('WebAuthn.enable');
const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true };
await devtools.send('WebAuthn.addVirtualAuthenticator', { options });
const submit = (form) => page.click(`${form} button[type=submit]`);
const seen = (step) => page.waitForSelector(`${step}:not([hidden])`);

await page.goto(`${url}/login`);
await page.fill('#username', user);
await page.fill('#password', temporary);
await submit('#password-form');
await seen('#change-step');
if (await page.isVisible('#current')) await page.fill('#current', temporary);
await page.fill('#new-password', password);
await page.fill('#repeat', password);
await submit('#change-form');
await seen('#home-step');
const who = await page.textContent('#who');

await page.click('#more-factors');
await seen('#enrol-step');
await submit('#passkey-form');
await seen('#codes-step');
const codes = await page.locator('#codes li').count();
await page.click('#codes-kept');
await seen('#home-step');
await page.click('#log-out');
await seen('#password-step');

await page.click('#passkey-login');
await seen('#home-step');
const whoByPasskey = await page.textContent('#who');

await page.goto(device);
await seen('#confirm-step');
const client = await page.textContent('#client');
await page.click('#approve');
await seen('#done-step');

await page.goto(reset);
await seen('#reset-step');
const address = page.url();
await page.fill('#reset-new', next);
await page.fill('#reset-repeat', next);
await submit('#reset-form');
await seen('#done-step');
console.log(JSON.stringify({ who, whoByPasskey, codes, client, address, complaints }));
await browser.close();
