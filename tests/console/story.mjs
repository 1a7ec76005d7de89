// A developer's first day: invited, in by the mail, a second factor, a key, a push; then two versions compared, and one deleted.
import { check, code, end, mail, part, person, picture, push, sound, stranger, temporary, watched, world } from './stage.mjs';

const DEV = 'dev@example.com';
const PASSWORD = 'the first day of a developer';
const REPOSITORY = 'web/story/app';
const main = (page) => page.locator('main').textContent();
const pushed = {};
let key;

const admin = await person(world.admin);
const office = await watched(admin);
const developer = await stranger();
const desk = await watched(developer);

await part('an admin invites a developer', async () => {
  await office.goto('/orgs/main/users');
  await office.locator('main a', { hasText: 'Invite people' }).first().click();
  await office.fill('#addresses', `Dev Eloper <${DEV}>\nnot an address`);
  await office.selectOption('#role', 'PROJECT_ADMIN');
  await office.locator('label.check', { hasText: /^\s*web\s*$/ }).locator('input').check();
  await office.locator('main form[method=post] button.button').first().click();
  const told = await main(office);
  check(told.includes(DEV) && /Invited/.test(told), `the invitation: ${told.slice(0, 300)}`);
  check(/Refused/.test(told), 'what is no address is not refused');
  await sound(office, 'what became of invitations');
  await picture(office, 'story-1-invited');
});

await part('the mail leads in', async () => {
  const password = temporary(await mail(DEV));
  await desk.goto('/login');
  await desk.fill('#username', DEV);
  await desk.fill('#password', password);
  await desk.locator('main button', { hasText: /^Log in$/ }).click();
  await desk.fill('#current', password);
  await desk.fill('#new', PASSWORD);
  await desk.fill('#repeat', PASSWORD);
  await desk.locator('main form[action="/password"] button').click();
  await desk.waitForURL('**/orgs/main');
  await picture(desk, 'story-2-first-home');
  await desk.goto('/account/mfa');
  await desk.locator('main button', { hasText: /authenticator app/i }).click();
  const secret = await desk.locator('main .command [data-copy]').first().getAttribute('data-copy');
  await desk.fill('#code', code(secret.trim()));
  await desk.locator('main form[action$="/confirm"] button').click();
  await desk.locator('#codes-kept').click();
});

await part('a key', async () => {
  await desk.goto('/account/keys');
  await desk.locator('main a', { hasText: 'New API key' }).first().click();
  await desk.fill('#name', 'laptop');
  await desk.locator('main form[method=post] button.button').first().click();
  key = (await desk.locator('main .command [data-copy]').first().getAttribute('data-copy')).trim();
  check(key.startsWith('ra2.'), `the key ${key.slice(0, 4)}`);
  await sound(desk, 'a new key');
  await desk.reload();
  check(!(await desk.content()).includes(key), 'a key is shown twice');
});

await part('a push, and there it is', async () => {
  await desk.goto('/orgs/main/repositories?search=story');
  check(!(await main(desk)).includes(REPOSITORY), 'a repository is there before its first push');
  pushed.v1 = await push(DEV, key, `main/${REPOSITORY}`, 'v1', ['the floor', 'the walls']);
  pushed.v2 = await push(DEV, key, `main/${REPOSITORY}`, 'v2', ['the floor', 'other walls', 'a roof']);
  await desk.reload();
  await desk.locator('main a', { hasText: REPOSITORY }).first().click();
  await desk.locator('main th a', { hasText: 'v2' }).waitFor();
  await picture(desk, 'story-3-pushed');
  await desk.goto('/orgs/main');
  check((await main(desk)).includes('story/app'), 'the home does not tell of the push');
});

await part('two versions compared', async () => {
  await desk.goto(`/orgs/main/repositories/${REPOSITORY}`);
  await desk.fill('#from', 'v1');
  await desk.fill('#to', 'v2');
  await desk.locator('main form', { has: desk.locator('#from') }).locator('button').click();
  await desk.waitForURL('**/compare/**');
  const told = await main(desk);
  check(/v1/.test(told) && /v2/.test(told), `compared: ${told.slice(0, 300)}`);
  await sound(desk, 'two tags compared');
  await picture(desk, 'story-4-compared');
});

await part('one is deleted, after a look at what goes', async () => {
  await desk.goto(`/orgs/main/repositories/${REPOSITORY}`);
  await desk.locator('input[name=tag][value=v1]').check();
  await desk.locator('main button', { hasText: 'Delete the chosen tags' }).click();
  const told = await main(desk);
  check(/v1/.test(told) && /What goes/.test(told) && /What stays/.test(told), `the preview: ${told.slice(0, 400)}`);
  await sound(desk, 'what goes and what stays');
  await picture(desk, 'story-5-preview');
  await desk.locator('main form[method=post] button.danger').click();
  await desk.goto(`/orgs/main/repositories/${REPOSITORY}`);
  check((await desk.locator('main th a', { hasText: /^v1$/ }).count()) === 0, 'the tag is still there');
  check((await desk.locator('main th a', { hasText: /^v2$/ }).count()) === 1, 'another tag is gone');
  await desk.locator('main a', { hasText: 'Delete repository' }).click();
  await desk.locator('dialog[open]').waitFor();
  await desk.locator('dialog input[name=confirm]').fill('not its name');
  await desk.locator('dialog button.danger').click();
  await desk.locator('main input[name=confirm]').waitFor();
  check((await desk.locator('.wrong, .notice.bad').count()) > 0, 'another name deletes it');
  await desk.locator('main input[name=confirm]').fill(REPOSITORY);
  await desk.locator('main form[method=post] button.danger').click();
  await desk.goto('/orgs/main/repositories?search=story');
  check((await desk.locator('main th a', { hasText: REPOSITORY }).count()) === 0, 'the repository is still there');
});

await part('the audit log knows', async () => {
  await office.goto(`/orgs/main/audit?user=${encodeURIComponent(DEV)}`);
  const told = await main(office);
  for (const word of ['story/app', DEV]) check(told.includes(word), `the audit log without ${word}`);
  await picture(office, 'story-6-audit');
});

await end();
