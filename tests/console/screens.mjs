// Every page that each role finds by following links from its home, and screens by name that are too deep to be found for sure.
import { check, end, fits, part, person, picture, sound, watched, world, wrong } from './stage.mjs';

const KIB = 1024;
/** Pages of one kind that the admin and the operator look at; the others see less of the same, and look at one. */
const OF_A_KIND = 2;
const WHOLE = ['admin', 'operator', 'guide', 'named'];

/** What everybody of an organization finds. */
const OWN = ['/account', '/account/keys', '/account/keys/new', '/account/mfa', '/account/password', '/account/sessions', '/account/sessions/end-others', '/account/terminal'];
/** What whoever sees all of an organization finds. */
const ALL = [
  ...OWN, '/orgs/:org', '/orgs/:org/audit', '/orgs/:org/audit/:id', '/orgs/:org/audit/chain', '/orgs/:org/compare/:repository?', '/orgs/:org/groups',
  '/orgs/:org/groups/:id', '/orgs/:org/groups/:id/roles', '/orgs/:org/issuers', '/orgs/:org/machines', '/orgs/:org/manifests/:repository?',
  '/orgs/:org/manifests/:repository?content', '/orgs/:org/manifests/:repository?attached', '/orgs/:org/manifests/:repository?raw',
  '/orgs/:org/projects', '/orgs/:org/projects/:project', '/orgs/:org/repositories', '/orgs/:org/repositories/:repository',
  '/orgs/:org/repositories/:repository?push', '/orgs/:org/repositories/:repository?untagged', '/orgs/:org/roles', '/orgs/:org/roles/:id',
  '/orgs/:org/settings', '/orgs/:org/users', '/orgs/:org/users/:id', '/orgs/:org/users/:id/access', '/orgs/:org/users/:id/rights',
];

/** What a role must find at least, and the entries of its side. */
const ROLES = {
  admin: {
    who: world.admin,
    side: ['Home', 'Repositories', 'Projects', 'Users', 'Groups', 'Roles', 'Machine users', 'All API keys', 'Trusted issuers', 'Settings', 'Audit', 'Account', 'API keys'],
    finds: [
      ...ALL, '/orgs/:org/groups/new', '/orgs/:org/groups/:id/edit', '/orgs/:org/groups/:id/delete', '/orgs/:org/keys', '/orgs/:org/keys/new',
      '/orgs/:org/keys/:id/revoke', '/orgs/:org/users/new', '/orgs/:org/users/:id/deactivate', '/orgs/:org/users/:id/delete', '/orgs/:org/users/:id/keys',
      '/orgs/:org/users/:id/sessions',
    ],
    not: ['/platform'],
  },
  operator: {
    who: world.operator,
    side: ['Organizations', 'Health', 'Audit', 'Account'],
    finds: ['/platform/audit', '/platform/audit/:id', '/platform', '/platform/orgs', '/platform/orgs/new', '/platform/orgs/:id', '/platform/orgs/:id/suspend', '/platform/orgs/:id/delete'],
    not: ['/orgs/main/groups'],
  },
  reader: {
    who: world.seeds.people['reader@example.com'],
    side: ['Home', 'Repositories', 'Projects', 'Users', 'Groups', 'Roles', 'Machine users', 'Trusted issuers', 'Settings', 'Audit', 'Account', 'API keys'],
    finds: ALL,
    not: ['/orgs/main/groups/new', '/platform'],
  },
  auditor: {
    who: world.seeds.people['auditor@example.com'],
    side: ['Home', 'Audit', 'Account', 'API keys'],
    finds: [...OWN, '/orgs/:org', '/orgs/:org/audit', '/orgs/:org/audit/:id'],
    not: ['/orgs/main/groups', '/platform'],
  },
  lead: {
    who: world.seeds.people['lead@example.com'],
    side: ['Home', 'Repositories', 'Projects', 'Users', 'Groups', 'Roles', 'Machine users', 'Audit', 'Account', 'API keys'],
    finds: [...OWN, '/orgs/:org', '/orgs/:org/repositories', '/orgs/:org/projects', '/orgs/:org/users', '/orgs/:org/audit'],
    not: ['/orgs/main/groups/new', '/platform'],
  },
  guest: {
    who: world.seeds.people['guest@example.com'],
    side: ['Home', 'Repositories', 'Projects', 'Account', 'API keys'],
    finds: [...OWN, '/orgs/:org', '/orgs/:org/repositories', '/orgs/:org/manifests/:repository?'],
    not: ['/orgs/main/groups', '/platform'],
  },
};

const SHOP = '/orgs/main/manifests/web/shop?reference';
const { screens } = world.seeds;
/** Screens that the admin looks at by their names: where each is, and what must be read on it. */
const NAMED = {
  'image-layers': [`${SHOP}=v1`, ['Layers', 'linux/amd64']],
  'image-config': [`${SHOP}=v1&view=config`, ['65532', '8080/tcp']],
  'image-history': [`${SHOP}=v1&view=history`, ['make step-1']],
  'image-attached': [`${SHOP}=v1&view=attached`, ['Signatures', 'Attestations', 'SBOMs', 'ann@example.com', '140 packages']],
  'image-raw': [`${SHOP}=v1&view=raw`, ['schemaVersion']],
  'image-platforms': [`${SHOP}=v2`, ['linux/amd64', 'linux/arm64']],
  'image-unknown': [`${SHOP}=v404`, ['v404'], 404],
  'says-signature': [screens['says-signature'], ['Signature', 'a key', 'no entry comes with it', 'cosign verify --key']],
  'says-keyless': [screens['says-keyless'], ['ann@example.com', 'https://accounts.example', 'it comes with an entry', '--certificate-identity=EXPECTED']],
  'says-provenance': [screens['says-provenance'], ['Statement', 'github-hosted', 'git+https://example.com/shop']],
  'says-spdx': [screens['says-spdx'], ['SPDX-2.3', 'syft-1.18.1', '12 packages', 'libssl3', 'Apache-2.0']],
  'says-cyclonedx': [screens['says-cyclonedx'], ['CycloneDX 1.5', 'cyclonedx-npm 1.19.3', '@babel/part-001', 'first 100 of 140']],
  'says-searched': [`${screens['says-cyclonedx']}&search=part-13`, ['@types/part-130']],
  'says-not-found': [`${screens['says-spdx']}&search=nowhere`, ['No package is like that']],
  'says-nothing': [screens['says-nothing'], ['Not summarized']],
};

/** Which kind of page an address is: names of things and values of queries left out. */
function kind(address) {
  const url = new URL(address);
  const parts = url.pathname.split('/').filter(Boolean);
  const shown = [];
  const nouns = { orgs: ':org', users: ':id', groups: ':id', roles: ':id', audit: ':id', machines: ':id', issuers: ':id', keys: ':id', sessions: ':id', bindings: ':id' };
  for (let at = 0; at < parts.length; at += 1) {
    const before = parts[at - 1];
    if (['repositories', 'manifests', 'compare', 'deletion'].includes(before) && parts[0] === 'orgs' && at === 3) { shown.push(':repository'); break; }
    else if (before === 'projects' && parts[at] !== 'new') shown.push(':project');
    else if (parts[0] === 'platform' && before === 'orgs' && parts[at] !== 'new') shown.push(':id');
    else if (nouns[before] && !['new', 'chain', 'export', 'end-others'].includes(parts[at])) shown.push(nouns[before]);
    else shown.push(parts[at]);
  }
  // Of queries only which tab, or what is asked about: the rest are filters and pages of one and the same screen.
  const tab = ['tab', 'what', 'view'].map((name) => url.searchParams.get(name)).find(Boolean);
  return `/${shown.join('/')}${tab ? `?${tab}` : url.search ? '?' : ''}`;
}

const times = new Map();
const pictured = new Set();

/** Looks at a page in every way. */
async function look(page, role, path, screen, status = 200) {
  const answer = await page.goto(path);
  const what = `${role} ${path}`;
  if (!check(answer.status() === status, `${what}: ${answer.status()}`)) return [];
  const policy = answer.headers()['content-security-policy'] ?? '';
  check(policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'"), `${what}: policy ${policy}`);
  check(!answer.headers()['content-encoding'], `${what}: a page is packed`);
  check(answer.headers()['cache-control']?.includes('no-store'), `${what}: a page may be kept`);
  const { weight, server, links, shape } = await page.evaluate(() => {
    const [navigation] = performance.getEntriesByType('navigation');
    const parts = performance.getEntriesByType('resource').reduce((sum, one) => sum + one.encodedBodySize, 0);
    const links = [...document.querySelectorAll('a[href]:not([download])')].map((link) => link.href.split('#')[0]);
    const shape = {
      headings: document.querySelectorAll('h1').length,
      unscoped: document.querySelectorAll('thead th:not([scope])').length,
      inline: document.querySelectorAll('[style], style, script:not([src])').length,
      small: [...document.querySelectorAll('main a, main button, main input, main select, main summary')].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && box.height && getComputedStyle(element).display !== 'inline' && (box.width < 24 || box.height < 24) && !element.closest('label') && element.type !== 'hidden';
      }).map((element) => element.outerHTML.slice(0, 100)).slice(0, 2),
    };
    return { weight: navigation.encodedBodySize + parts, server: navigation.responseStart - navigation.requestStart, links, shape };
  });
  check(shape.headings === 1, `${what}: ${shape.headings} h1`);
  check(shape.unscoped === 0, `${what}: ${shape.unscoped} headers without scope`);
  check(shape.inline === 0, `${what}: ${shape.inline} styles or scripts inline`);
  // `:not(label)`: what is small in a label has the label for a target.
  check(shape.small.length === 0, `${what}: smaller than 24 px: ${shape.small.join(' | ')}`);
  check(weight < 100 * KIB, `${what}: ${weight} bytes on the wire`);
  const seen = times.get(screen) ?? [];
  times.set(screen, [...seen, { server, weight }]);
  await sound(page, what);
  const file = `${role}-${screen}`.replaceAll(/[^a-z0-9]+/gi, '-').replace(/-$/, '');
  const fresh = !pictured.has(file);
  pictured.add(file);
  if (fresh) await picture(page, file);
  if (!WHOLE.includes(role) && times.get(screen).length > 1) return links;
  await page.emulateMedia({ colorScheme: 'dark' });
  await sound(page, `${what} (dark)`, true);
  if (fresh) await picture(page, `${file}.dark`);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await fits(page, what);
  if (fresh) await picture(page, `${file}.390`);
  await page.setViewportSize({ width: 1280, height: 900 });
  return links;
}

/** Whether a link leads to a page of the console. */
function ours(link) {
  return link.startsWith(`${world.url}/`) && !/^\/(api|docs|assets|styleguide|login|logout)(\/|$|\?)/.test(new URL(link).pathname);
}

for (const [role, { who, side, finds, not }] of Object.entries(ROLES)) {
  await part(`screens of ${role}`, async () => {
    const context = await person(who);
    const page = await watched(context);
    await page.goto('/');
    const shown = await page.locator('nav.side a').allTextContents();
    check(JSON.stringify(shown.map((text) => text.trim())) === JSON.stringify(side), `${role}: the side has ${shown.join(', ')}`);
    const waiting = [page.url(), ...(await page.locator('a[href]').evaluateAll((all) => all.map((link) => link.href.split('#')[0])))];
    const kinds = new Map();
    const done = new Set();
    while (waiting.length) {
      const next = waiting.shift();
      if (done.has(next) || !ours(next)) continue;
      done.add(next);
      const screen = kind(next);
      const count = kinds.get(screen) ?? 0;
      if (count >= (WHOLE.includes(role) ? OF_A_KIND : 1)) continue;
      kinds.set(screen, count + 1);
      waiting.push(...(await look(page, role, next, screen)));
    }
    for (const screen of finds) check(kinds.has(screen), `${role}: no link leads to ${screen}`);
    for (const path of not) {
      const answer = await page.goto(path);
      check([403, 404, 409].includes(answer.status()), `${role} ${path}: ${answer.status()}`);
      await sound(page, `${role} ${path} (refused)`);
      await picture(page, `${role}-refused`);
    }
    console.log(`${role}: ${done.size} links, ${kinds.size} kinds of pages: ${[...kinds.keys()].sort().join(' ')}`);
    await context.close();
  });
}

await part('screens by name', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  for (const [name, [path, texts, status]] of Object.entries(NAMED)) {
    await look(page, 'named', path, name, status);
    const read = (await page.locator('main').innerText()).replaceAll(/\s+/g, ' ');
    for (const text of texts) check(read.includes(text), `named ${name}: nothing says “${text}”`);
  }
  await context.close();
});
for (const name of new Set([...Object.keys(NAMED), ...Object.keys(screens)])) check(times.has(name), `the screen ${name} was not seen`);

await part('the style guide', async () => {
  const context = await person(world.admin);
  const page = await watched(context);
  for (const path of ['/styleguide', '/styleguide/dialog']) await look(page, 'guide', path, path);
  await context.close();
});

console.log('\nserver ms (median), bytes on the wire (most)');
for (const [screen, seen] of [...times].sort()) {
  const servers = seen.map((one) => one.server).sort((one, other) => one - other);
  console.log(`${servers[servers.length >> 1].toFixed(1).padStart(7)} ${String(Math.max(...seen.map((one) => one.weight))).padStart(7)}  ${screen}`);
}
if (!times.size) wrong('no screen was seen');
await end();
