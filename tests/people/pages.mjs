// A person at the pages of the door, in a real Chromium with a virtual authenticator: first log-in with a temporary password,
// a passkey, a log-in by it alone and by it after the password, a command line let in, a new password by a link; and then
// the log-in of another person without JavaScript.
//
// usage: node pages.mjs PLAYWRIGHT CHROMIUM URL USER TEMPORARY PASSWORD DEVICE-LINK RESET-LINK OTHER NEW-PASSWORD
const [playwright, executablePath, url, user, temporary, password, device, reset, other, next] = process.argv.slice(2);
const { chromium } = await import(playwright);

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const complaints = [];
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => request.url().startsWith(url) || request.url().startsWith('data:') || complaints.push(`foreign: ${request.url()}`));
  return [context, page];
}
const [context, page] = await open();
const devtools = await context.newCDPSession(page);
await devtools.send('WebAuthn.enable');
const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true };
await devtools.send('WebAuthn.addVirtualAuthenticator', { options });
const title = (text) => page.waitForSelector(`h1:has-text("${text}")`);
const press = (text) => page.click(`main button:has-text("${text}")`);
const who = async () => { await page.goto(`${url}/account`); return (await page.textContent('.facts dd')).trim(); };

// From the mail to a password of one's own, and on to where it was wanted.
await page.goto(`${url}/account/mfa`);
await page.fill('#username', user);
await page.fill('#password', temporary);
await page.press('#password', 'Enter');
await title('Welcome to');
await page.fill('#current', temporary);
await page.fill('#new', password);
await page.fill('#repeat', password);
await press('Set the password');
await title('My account');
const landed = page.url();

await page.fill('#passkey-name', 'Laptop');
await page.click('#passkey-add');
await title('Keep your recovery codes');
const codes = await page.locator('#codes li').count();
await page.click('#codes-kept');
await page.waitForSelector('text=Laptop');
const named = await who();
await page.click('.menu.at-end summary');
await page.click('.menu.at-end button');
await title('Log in');
const told = await page.textContent('.notice');
// What was seen before is not shown again.
await page.goBack();
const back = page.url();

await page.goto(`${url}/login`);
await page.click('#passkey-login');
await page.waitForSelector('.menu.at-end');
const whoByPasskey = await who();
await context.clearCookies();

await page.goto(`${url}/login`);
await page.fill('#username', user);
await page.fill('#password', password);
await press('Log in');
await title('Second factor');
const secondAddress = page.url();
await page.click('#passkey-factor');
await page.waitForSelector('.menu.at-end');

await page.goto(device);
await title('Is this you?');
const client = await page.textContent('.facts dd');
await press('Approve');
await title('The command line is connected');

await context.clearCookies();
await page.goto(reset);
await page.waitForSelector('#new:focus');
const address = page.url();
await page.fill('#new', next);
await page.fill('#repeat', next);
await press('Set the password');
await title('Log in');
const resetTold = await page.textContent('.notice');

// Without a script: the link of the mail is pasted (it was used up), and the log-in works by forms alone.
const [plain, quiet] = await open({ javaScriptEnabled: false });
await quiet.goto(reset);
await quiet.click('summary');
await quiet.fill('#token', reset);
await quiet.fill('#new', next);
await quiet.fill('#repeat', next);
await quiet.click('details button');
const usedUp = await quiet.textContent('#token-wrong');
await quiet.goto(`${url}/account/keys`);
const passkeyOffered = await quiet.isVisible('#passkey-login');
await quiet.fill('#username', other);
await quiet.fill('#password', next);
await quiet.click('main button:has-text("Log in")');
const quietAddress = quiet.url();
await plain.close();
console.log(JSON.stringify({
  landed, named, told, back, whoByPasskey, codes, secondAddress, client, address, resetTold, usedUp, passkeyOffered, quietAddress, complaints,
}));
await browser.close();
