// Pages as people use them: two tabs, back and forward, reloading, no script, a narrow screen, the keyboard alone.
import { check, end, fits, part, person, watched, world } from './stage.mjs';

const GROUPS = '/orgs/main/groups';

await part('two organizations in two tabs', async () => {
  const context = await person(world.seeds.both);
  const [one, two] = [await watched(context), await watched(context)];
  await one.goto('/organization');
  await one.locator('main button', { hasText: 'main' }).click();
  await one.waitForURL('**/orgs/main');
  await one.goto(GROUPS);
  await two.goto('/orgs/acme/groups');
  check(/Switch to acme/.test(await two.textContent('main')), 'a tab of another organization does not ask');
  await two.locator('main button', { hasText: 'Switch to' }).click();
  await two.waitForURL('**/orgs/acme/groups');
  // The first tab is of another organization now: its form does nothing, and it says so.
  await one.goto(GROUPS);
  check(/Switch to main/.test(await one.textContent('main')), 'the first tab does not ask');
  await one.locator('main button', { hasText: 'Switch to' }).click();
  await one.waitForURL(`**${GROUPS}`);
  await one.goto(`${GROUPS}/new`);
  await two.goto('/orgs/acme/groups');
  await two.locator('main button', { hasText: 'Switch to' }).click();
  await one.fill('#name', 'lost');
  await one.locator('main form button').click();
  check(/Nothing was changed/.test(await one.textContent('main')), 'a form of an old tab is not refused');
  await context.close();
});

await part('back, forward, reload', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  await page.goto(GROUPS);
  await page.locator('main a', { hasText: 'New group' }).click();
  await page.fill('#name', 'once');
  await page.locator('main form button').click();
  await page.waitForURL(`**${GROUPS}/once`);
  await page.reload();
  const posts = [];
  page.on('request', (request) => request.method() === 'POST' && posts.push(request.url()));
  await page.goBack();
  await page.goForward();
  await page.reload();
  check(posts.length === 0, `the way back sends forms again: ${posts}`);
  await page.goto(GROUPS);
  check((await page.locator('main th a', { hasText: 'once' }).count()) === 1, 'the group is not there once');
  // A double click sends a form once.
  await page.goto(`${GROUPS}/new`);
  await page.fill('#name', 'twice');
  await page.locator('main form button').dblclick();
  await page.waitForURL(`**${GROUPS}/twice`);
  check(posts.length === 1, `a double click sends ${posts.length} forms`);
  await context.close();
});

await part('without a script', async () => {
  const context = await person(world.admin, { script: false });
  const page = await context.newPage();
  await page.goto(GROUPS);
  await page.locator('main a', { hasText: 'New group' }).click();
  await page.fill('#name', 'Bad/Name?');
  await page.locator('main form button').click();
  if (new URL(page.url()).pathname !== GROUPS || (await page.locator('.wrong, .notice.bad').count()) === 0) await page.goto(`${GROUPS}/new`);
  await page.fill('#name', 'plain');
  await page.locator('main form button').click();
  check(/plain/.test(await page.textContent('main')), 'a group is not made without a script');
  await page.locator('header .menu').last().locator('summary').click();
  await page.locator('header form[action="/logout"] button').click();
  check(new URL(page.url()).pathname === '/login', `logging out leads to ${page.url()}`);
  await page.goto(GROUPS);
  check(new URL(page.url()).pathname === '/login', 'logged out, and still inside');
  await context.close();
});

await part('on a phone', async () => {
  const context = await person(world.admin, { width: 390, height: 844 });
  const page = await watched(context);
  await page.goto(GROUPS);
  const menu = page.locator('nav.side > details > summary');
  check(await menu.isVisible(), 'no menu on a phone');
  check(!(await page.locator('nav.side a').first().isVisible()), 'the menu is open from the start');
  await menu.click();
  await page.locator('nav.side a', { hasText: 'Groups' }).click();
  await fits(page, 'groups on a phone');
  await context.close();
});

/** What has the focus, and whether that can be seen. */
const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const seen = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || element === document.body;
  return { text: (element.textContent || element.name || '').trim().slice(0, 60), tag: element.tagName, name: element.name, href: element.getAttribute('href'), seen };
});

/** Tabs until something has the focus; everything on the way must be seen to have it. */
async function tab(page, wanted, what) {
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    check(now.seen, `${what}: the focus on ${now.tag} ${now.text} cannot be seen`);
    if (wanted(now)) return now;
  }
  throw new Error(`${what}: Tab never comes there`);
}

await part('by keyboard alone', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  await page.goto(GROUPS);
  await page.keyboard.press('Tab');
  check(/Skip to content/.test((await focused(page)).text), 'the first stop does not skip to the content');
  await page.keyboard.press('Enter');
  check((await page.evaluate(() => document.activeElement.id)) === 'main', 'skipping does not lead to the content');
  await page.goto(GROUPS);
  await tab(page, ({ tag, text }) => tag === 'SUMMARY' && /Account/.test(text), 'the account menu');
  await page.keyboard.press('Enter');
  check(await page.locator('header .menu.at-end > div').isVisible(), 'Enter does not open a menu');
  await page.keyboard.press('Escape');
  check(!(await page.locator('header .menu.at-end > div').isVisible()), 'Escape does not close a menu');
  check((await focused(page)).tag === 'SUMMARY', 'the focus is lost with the menu');
  await tab(page, ({ text }) => text === 'New group', 'the deed');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/groups/new');
  await tab(page, ({ name }) => name === 'name', 'the first field');
  await page.keyboard.type('by-keyboard');
  await page.keyboard.press('Enter');
  await page.waitForURL(`**${GROUPS}/by-keyboard`);
  check(/by-keyboard/.test(await page.textContent('main')), 'a group is not made by keyboard');
  // Everything that a mouse reaches is a stop.
  await page.goto(GROUPS);
  const stops = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')].filter((element) => element.checkVisibility() && element.tabIndex < 0).map((element) => element.outerHTML.slice(0, 80)));
  check(stops.length === 0, `Tab does not reach ${stops}`);
  await context.close();
});

await part('a dialog by keyboard', async () => {
  const context = await person(world.operator);
  const page = await watched(context);
  await page.goto('/platform/orgs/acme');
  await tab(page, ({ text }) => /^Delete acme/.test(text), 'the deed');
  await page.keyboard.press('Enter');
  await page.locator('dialog[open]').waitFor();
  check(/Delete acme/.test(await page.evaluate(() => document.querySelector(`#${document.querySelector('dialog').getAttribute('aria-labelledby')}`)?.textContent ?? '')), 'the dialog has no name');
  for (let step = 0; step < 8; step += 1) {
    await page.keyboard.press('Tab');
    check(await page.evaluate(() => document.activeElement === document.body || !!document.activeElement.closest('dialog')), 'Tab leaves the dialog');
  }
  await page.keyboard.press('Escape');
  await page.locator('dialog').waitFor({ state: 'detached' });
  check(/^Delete acme/.test((await focused(page)).text), 'the focus does not come back');
  await page.keyboard.press('Enter');
  await page.locator('dialog[open]').waitFor();
  await page.locator('dialog #confirm').fill('acne');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/delete');
  check((await page.locator('#confirm[aria-invalid=true]').count()) === 1, 'a wrong name is not shown as wrong');
  await page.fill('#confirm', 'acme');
  await page.fill('#grace_days', '3');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/platform/orgs/acme');
  check(/have it back/.test(await page.textContent('main')), 'it is not said that it can be had back');
  await page.locator('main button', { hasText: 'Keep it' }).click();
  await page.waitForURL('**/platform/orgs/acme');
  check(/Active/.test(await page.textContent('main h1')), 'it is not had back');
  await context.close();
});

await end();
