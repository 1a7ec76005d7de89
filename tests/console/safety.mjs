// What must not be possible: forms of others, pages in caches and frames, scripts from elsewhere; and files that are kept.
import { check, end, logIn, part, person, stranger, watched, world } from './stage.mjs';

const GROUPS = '/orgs/main/groups';
const names = async (context) => (await (await context.request.get('/api/v1/orgs/main/groups?limit=500')).json()).items.map((group) => group.name);

await part('a form is the session\'s own', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  await page.goto(`${GROUPS}/new`);
  const token = await page.locator('main input[name=csrf]').first().inputValue();
  const send = (form, headers = { origin: world.url }) => context.request.post(GROUPS, { form, headers, maxRedirects: 0 });
  for (const [what, form, headers] of [
    ['without a token', { name: 'forged' }, undefined],
    ['with an empty token', { name: 'forged', csrf: '' }, undefined],
    ['from another site', { name: 'forged', csrf: token }, { origin: 'https://evil.example' }],
    ['from nowhere', { name: 'forged', csrf: token }, { origin: 'null' }],
  ]) {
    const answer = await send(form, headers);
    check(answer.status() === 403, `a form ${what}: ${answer.status()}`);
  }
  const other = await person(world.seeds.both);
  const foreign = (await (await other.request.get('/api/v1/session')).json()).csrf_token;
  check((await send({ name: 'forged', csrf: foreign })).status() === 403, 'a form with the token of another session');
  const wrongKind = await context.request.post(GROUPS, { headers: { origin: world.url, 'content-type': 'text/plain' }, data: `name=forged&csrf=${token}` });
  check(wrongKind.status() >= 400, `a form that is text: ${wrongKind.status()}`);
  check(!(await names(context)).includes('forged'), 'a forged form made a group');
  check((await send({ name: 'honest', description: '', csrf: token })).status() === 303, 'an honest form');
  check((await names(context)).includes('honest'), 'an honest form made no group');
  await context.close();
  await other.close();
});

await part('what is told on the next page is text', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  await page.goto(`${GROUPS}/new`);
  await page.fill('#name', 'x');
  await page.fill('#description', '<img src=x onerror=alert(1)>');
  await page.click('main form button');
  await page.waitForURL(`**${GROUPS}**`);
  check((await page.locator('main img').count()) === 0, 'a description became markup');
  check((await page.locator('.toast').count()) === 1, 'what was done is not told');
  await page.reload();
  check((await page.locator('.toast').count()) === 0, 'what was done is told twice');
  await context.close();
});

await part('a page is ours alone', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  const answer = await page.goto(GROUPS);
  const headers = answer.headers();
  for (const [name, part] of [
    ['content-security-policy', "script-src 'self'"], ['content-security-policy', "style-src 'self'"], ['content-security-policy', "form-action 'self'"],
    ['content-security-policy', "base-uri 'none'"], ['x-content-type-options', 'nosniff'], ['cache-control', 'no-store'], ['cross-origin-resource-policy', 'same-origin'],
  ]) check(headers[name]?.includes(part), `${name}: ${headers[name]}`);
  check(!/unsafe|\*|https?:/.test(headers['content-security-policy']), `policy: ${headers['content-security-policy']}`);
  // The policy holds: what is put into a page does not run. (This page's complaint is no failure.)
  const victim = await context.newPage();
  await victim.goto(GROUPS);
  const ran = await victim.evaluate(() => new Promise((done) => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    setTimeout(() => done(window.ran === true), 50);
  }));
  check(!ran, 'a script in a page ran');
  const cookies = await context.cookies();
  for (const cookie of cookies) check(cookie.httpOnly && cookie.sameSite === 'Strict', `the cookie ${cookie.name} is ${JSON.stringify(cookie)}`);
  check((await page.evaluate(() => document.cookie)) === '', 'a script reads cookies');
  await context.close();
});

await part('files are kept and packed', async () => {
  const context = await person(world.admin);
  const page = await context.newPage();
  await page.goto(GROUPS);
  const files = await page.evaluate(() => [...document.querySelectorAll('link[href], script[src]')].map((one) => one.href || one.src));
  check(files.length === 3, `files: ${files}`);
  for (const file of files) {
    const packed = await fetch(file, { headers: { 'accept-encoding': 'gzip' } });
    check(packed.status === 200 && packed.headers.get('content-encoding') === 'gzip', `${file}: ${packed.status} ${packed.headers.get('content-encoding')}`);
    check(/max-age=31536000.*immutable/.test(packed.headers.get('cache-control')), `${file}: ${packed.headers.get('cache-control')}`);
    const plain = await fetch(file, { headers: { 'accept-encoding': 'identity' } });
    check(!plain.headers.get('content-encoding') && (await plain.text()) === (await packed.text()), `${file} unpacked`);
    check((await fetch(file.replace(/assets\/\w+/, 'assets/0000000000000000'))).status === 404, `${file} of another version`);
  }
  await page.goto(GROUPS);
  const again = await page.evaluate(() => performance.getEntriesByType('resource').map((one) => one.transferSize));
  check(again.every((size) => size === 0), `kept files are fetched again: ${again}`);
  await context.close();
});

await part('whoever is not there is led to the log-in and back', async () => {
  const context = await stranger();
  const page = await context.newPage();
  await page.goto(`${GROUPS}?after=a`);
  check(new URL(page.url()).pathname === '/login', `a stranger is at ${page.url()}`);
  for (const evil of ['https://evil.example/', '//evil.example/', '/\\evil.example']) {
    const answer = await context.request.get(`/login?next=${encodeURIComponent(evil)}`);
    const text = await answer.text();
    check(!/(href|action)="[^"]*evil\.example/.test(text), `the log-in leads to ${evil}`);
  }
  await logIn(context, world.admin);
  await page.goto(GROUPS);
  check(new URL(page.url()).pathname === GROUPS, `with a session at ${page.url()}`);
  // A session that ended does nothing and says so.
  await page.goto(`${GROUPS}/new`);
  await context.clearCookies();
  await page.fill('#name', 'too-late');
  await page.click('main form button');
  check(/session ended|log in/i.test(await page.textContent('main')), 'a form after the session ended says nothing');
  await context.close();
});

await end();
