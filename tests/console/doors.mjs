// Every way in: the log-in and what can go wrong with it, invitations, second factors, passkeys, lost passwords, command lines.
import { check, code, end, fits, logIn, mail, mails, part, person, picture, sound, stranger, temporary, watched, world } from './stage.mjs';

const NEW = 'quite another long secret';
const at = (page) => new URL(page.url()).pathname;
const main = (page) => page.locator('main').textContent();

/** Looks at a page of the door in every way, and takes its picture. */
async function seen(page, name) {
  await sound(page, name);
  await picture(page, `door-${name}`);
  await page.emulateMedia({ colorScheme: 'dark' });
  await sound(page, `${name} (dark)`, true);
  await picture(page, `door-${name}.dark`);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await fits(page, name);
  await picture(page, `door-${name}.390`);
  await page.setViewportSize({ width: 1280, height: 900 });
}

async function fillIn(page, { name, password }) {
  await page.fill('#username', name);
  await page.fill('#password', password);
  await page.locator('main button', { hasText: /^Log in$/ }).click();
}

async function logOut(page) {
  await page.locator('header .menu').last().locator('summary').click();
  await page.locator('header form[action="/logout"] button').click();
  await page.waitForURL('**/login**');
}

/** An authenticator of the browser's own. */
async function authenticator(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send('WebAuthn.enable');
  const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true };
  await devtools.send('WebAuthn.addVirtualAuthenticator', { options });
}

/** The API as somebody. */
async function api(who) {
  const context = await stranger();
  const { csrf_token: token } = await logIn(context, who);
  return (method, path, data) => context.request.fetch(`/api/v1${path}`, { method, data, headers: { 'x-csrf-token': token } });
}

await part('the log-in', async () => {
  const context = await stranger();
  const page = await watched(context);
  await page.goto('/orgs/main/groups');
  check(at(page) === '/login', `a stranger is at ${page.url()}`);
  await seen(page, 'login');
  await fillIn(page, { name: world.admin.name, password: 'not the right one' });
  check(/wrong/i.test(await main(page)), 'a wrong password is not said to be wrong');
  check((await page.inputValue('#username')) === world.admin.name, 'the name is lost');
  check((await page.inputValue('#password')) === '', 'the password comes back');
  await seen(page, 'login-wrong');
  await fillIn(page, { name: 'nobody@example.com', password: 'not the right one' });
  const unknown = await main(page);
  check(/wrong/i.test(unknown), 'an unknown name is told apart');
  await fillIn(page, world.admin);
  check(at(page) === '/orgs/main/groups', `the log-in leads to ${page.url()}`);
  await logOut(page);
  await page.goBack();
  await page.reload();
  check(at(page) === '/login', 'the way back leads inside after a log-out');
  await context.close();
});

await part('locked out, and in again by mail', async () => {
  const context = await stranger();
  const page = await watched(context);
  const who = world.seeds.bare;
  await page.goto('/login');
  for (let tries = 0; tries < 6; tries += 1) await fillIn(page, { name: who.name, password: `wrong ${tries}` });
  check(/locked/i.test(await main(page)), 'a locked password is not said to be locked');
  await seen(page, 'locked');
  await fillIn(page, who);
  check(at(page).startsWith('/login'), 'the right password opens a locked account');
  const before = mails(who.name).length;
  await page.goto('/login');
  await page.locator('main a', { hasText: /forgotten/i }).click();
  await seen(page, 'forgotten');
  await page.fill('#email', 'nobody@example.com');
  await page.locator('main form button:visible').first().click();
  const told = await main(page);
  await page.goto('/password-reset');
  await page.fill('#email', who.name);
  await page.locator('main form button:visible').first().click();
  check((await main(page)).replace(who.name, '') === told.replace('nobody@example.com', ''), 'whether there is an account is told');
  await seen(page, 'forgotten-asked');
  const link = (await mail(who.name, before)).match(/https?:\S*password-reset\S*/)[0];
  await page.goto('about:blank');
  await page.goto(link);
  await page.locator('#new').waitFor();
  check(!page.url().includes('token='), 'the token stays in the address');
  await seen(page, 'reset');
  await page.fill('#new', NEW);
  await page.fill('#repeat', 'something else again');
  await page.locator('main form[action$="/choose"] button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'two different passwords are taken');
  await page.fill('#new', NEW);
  await page.fill('#repeat', NEW);
  await page.locator('main form[action$="/choose"] button').click();
  await page.waitForURL((url) => url.pathname !== '/password-reset/choose');
  if (at(page) === '/login') await fillIn(page, { name: who.name, password: NEW });
  check(!at(page).startsWith('/login'), `with a new password at ${page.url()}`);
  await sound(page, 'without any role');
  await picture(page, 'door-no-role');
  await page.goto('about:blank');
  await page.goto(link);
  await page.fill('#new', `${NEW}!`);
  await page.fill('#repeat', `${NEW}!`);
  await page.locator('main form[action$="/choose"] button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'a link works twice');
  await context.close();
});

await part('invited, with a password for once', async () => {
  const context = await stranger();
  const page = await watched(context);
  const name = 'invited@example.com';
  const password = temporary(await mail(name));
  await page.goto('/login');
  await fillIn(page, { name, password });
  check(at(page) === '/password', `a temporary password leads to ${page.url()}`);
  check(/main/.test(await main(page)), 'the organization is not named');
  await seen(page, 'password-forced');
  await page.goto('/orgs/main/groups');
  check(at(page) === '/password', 'a temporary password opens more');
  await page.fill('#current', password);
  await page.fill('#new', 'short');
  await page.fill('#repeat', 'short');
  await page.locator('main form[action="/password"] button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'a short password is taken');
  await seen(page, 'password-refused');
  await page.fill('#current', password);
  await page.fill('#new', NEW);
  await page.fill('#repeat', NEW);
  await page.locator('main form[action="/password"] button').click();
  await page.waitForURL((url) => url.pathname !== '/password');
  await logOut(page);
  await fillIn(page, { name, password: NEW });
  check(!['/login', '/password'].includes(at(page)), `the new password leads to ${page.url()}`);
  await context.close();
});

await part('the choice of an organization', async () => {
  const context = await person(world.seeds.people['second@example.com']);
  const page = await watched(context);
  await page.goto('/organization');
  await seen(page, 'organization');
  const there = (await page.goto('/orgs/acme/groups')).status() === 200 ? 'main' : 'acme';
  await page.goto('/organization');
  await page.locator('main button', { hasText: there }).click();
  check(at(page) === `/orgs/${there}`, `the choice of ${there} leads to ${page.url()}`);
  await context.close();
});

await part('a second factor that an organization asks for', async () => {
  const boss = world.seeds.boss;
  const call = await api(boss);
  const changed = await call('PATCH', '/orgs/acme/settings', { mfa_required: true });
  check(changed.ok(), `settings: ${changed.status()} ${await changed.text()}`);
  const context = await stranger();
  const page = await watched(context);
  await page.goto('/login');
  await fillIn(page, boss);
  check(at(page) === '/second-factor/enrol', `whoever must enrol is at ${page.url()}`);
  await page.goto('/orgs/acme/groups');
  check(at(page) === '/second-factor/enrol', 'whoever must enrol gets further');
  await seen(page, 'enrol');
  await page.locator('main button', { hasText: /authenticator app/i }).click();
  const secret = (await page.locator('main .command [data-copy]').first().getAttribute('data-copy')).trim();
  check((await page.locator('main svg').count()) > 1 || (await page.locator('main .qr svg').count()) === 1, 'there is no picture to scan');
  await seen(page, 'enrol-app');
  await page.fill('#code', '000000');
  await page.locator('main form[action$="/confirm"] button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'a wrong code turns it on');
  await seen(page, 'enrol-app-wrong');
  await page.fill('#code', code(secret, -1));
  await page.locator('main form[action$="/confirm"] button').click();
  const codes = (await page.locator('#codes li').allTextContents()).map((text) => text.trim());
  check(codes.length === 10, `${codes.length} recovery codes`);
  await seen(page, 'recovery-codes');
  await page.locator('#codes-kept').click();
  check(at(page).startsWith('/orgs/acme'), `enrolled at ${page.url()}`);
  await logOut(page);
  await fillIn(page, boss);
  await page.locator('#code').waitFor();
  await seen(page, 'second-factor');
  await page.fill('#code', '000000');
  await page.locator('main form', { has: page.locator('#code') }).locator('button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'a wrong code is not said to be wrong');
  await page.fill('#code', code(secret, 0));
  await page.locator('main form', { has: page.locator('#code') }).locator('button').click();
  await page.waitForURL('**/orgs/acme');
  await logOut(page);
  await fillIn(page, boss);
  await page.locator('main details summary').click();
  await page.fill('#recovery', codes[0]);
  await page.locator('main form', { has: page.locator('#recovery') }).locator('button').click();
  await page.waitForURL('**/orgs/acme');
  await logOut(page);
  await fillIn(page, boss);
  await page.locator('main details summary').click();
  await page.fill('#recovery', codes[0]);
  await page.locator('main form', { has: page.locator('#recovery') }).locator('button').click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0, 'a recovery code works twice');
  await context.close();
});

await part('a passkey', async () => {
  const guest = world.seeds.people['guest@example.com'];
  const context = await stranger();
  const page = await watched(context);
  await authenticator(context, page);
  await page.goto('/login?next=/account/mfa');
  await fillIn(page, guest);
  if (at(page) !== '/account/mfa') await page.goto('/account/mfa');
  await page.locator('#passkey-add').click();
  await page.locator('#codes li').first().waitFor();
  await page.locator('#codes-kept').click();
  await page.goto('/account/mfa');
  check(/This device/.test(await main(page)), 'the passkey is not shown');
  await sound(page, 'the second factors');
  await picture(page, 'account-mfa-passkey');
  await logOut(page);
  await page.locator('#passkey-login').click();
  await page.waitForURL((url) => !url.pathname.startsWith('/login'));
  await logOut(page);
  await fillIn(page, guest);
  await page.locator('#passkey-factor').waitFor();
  await seen(page, 'second-factor-passkey');
  await page.locator('#passkey-factor').click();
  await page.waitForURL((url) => !url.pathname.startsWith('/login'));
  await context.close();
});

await part('a command line', async () => {
  const begun = await (await fetch(`${world.url}/api/v1/device/code`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ client: 'rctl on a headless box' }) })).json();
  const link = begun.verification_uri_complete.replace(/^https?:\/\/[^/]+/, world.url);
  const context = await stranger();
  const page = await watched(context);
  await page.goto(link);
  check(at(page) === '/login', `a stranger with a code is at ${page.url()}`);
  await fillIn(page, world.seeds.people['reader@example.com']);
  check(at(page) === '/device', `after the log-in at ${page.url()}`);
  check(/headless box/.test(await main(page)), 'what asks is not named');
  await seen(page, 'device');
  await page.locator('main button', { hasText: /approve/i }).click();
  check(/connected/i.test(await main(page)), 'it is not said that it is connected');
  await seen(page, 'device-done');
  const given = await fetch(`${world.url}/api/v1/device/token`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ device_code: begun.device_code }) });
  check(given.status === 200 && (await given.json()).access_token?.startsWith('rs1.'), `the command line gets ${given.status}`);
  await page.goto('/device');
  await seen(page, 'device-code');
  await page.fill('#code', 'BCDF-GHJK');
  await page.locator('main form button').first().click();
  check((await page.locator('.wrong, .notice.bad').count()) > 0 || /not|no /i.test(await main(page)), 'a code of nobody is taken');
  await context.close();
});

await part('without a script', async () => {
  const context = await stranger({ script: false });
  const page = await context.newPage();
  await page.goto('/login');
  await fillIn(page, { name: world.admin.name, password: 'wrong' });
  check(/wrong/i.test(await main(page)), 'a wrong password is not said to be wrong');
  await fillIn(page, world.admin);
  check(at(page) === '/orgs/main', `the log-in leads to ${page.url()}`);
  await page.goto('/password-reset');
  check(await page.locator('#email').isVisible(), 'no way to ask for a new password');
  await context.close();
});

await part('by keyboard alone', async () => {
  const context = await stranger();
  const page = await watched(context);
  await page.goto('/login');
  check((await page.evaluate(() => document.activeElement.id)) === 'username', 'the first field has no focus');
  await page.keyboard.type(world.admin.name);
  await page.keyboard.press('Tab');
  await page.keyboard.type(world.admin.password);
  await page.keyboard.press('Enter');
  await page.waitForURL('**/orgs/main');
  await context.close();
});

await end();
