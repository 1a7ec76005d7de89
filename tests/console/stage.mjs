// What every scene uses: the browser, people with a session, complaints of pages, axe, pictures, and codes by time.
//
// usage: node SCENE.mjs WORLD.json
import { execFileSync } from 'node:child_process';
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const world = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { chromium } = await import(world.playwright);
const axe = readFileSync(world.axe, 'utf8');

export const browser = await chromium.launch({
  executablePath: world.chromium,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars'],
});

/** What is wrong; a scene goes on, and fails at its end. */
const wrongs = [];
export function wrong(text) {
  console.error(`WRONG ${text}`);
  wrongs.push(text);
}
export function check(holds, text) {
  if (!holds) wrong(text);
  return holds;
}

/** Plays a part of a scene; what breaks off in it is wrong, and the others are played all the same. */
export async function part(name, play) {
  const begun = Date.now();
  try {
    await play();
  } catch (error) {
    wrong(`${name}: ${error.stack ?? error}`);
  }
  console.log(`${name}: ${Date.now() - begun} ms`);
}

export async function end() {
  await browser.close();
  if (wrongs.length) console.error(`\n${wrongs.length} wrong:\n${wrongs.join('\n')}`);
  process.exit(wrongs.length ? 1 : 0);
}

/** A context of a browser with nobody's session. */
export async function stranger(options = {}) {
  const { width = 1280, height = 900, dark = false, script = true } = options;
  const context = await browser.newContext({
    baseURL: world.url,
    viewport: { width, height },
    colorScheme: dark ? 'dark' : 'light',
    javaScriptEnabled: script,
    // A private root, where TLS is on.
    ignoreHTTPSErrors: true,
    reducedMotion: 'reduce',
  });
  context.setDefaultTimeout(10_000);
  return context;
}

/** A context with the session of somebody: `{name, password}`. */
export async function person(who, options = {}) {
  const context = await stranger(options);
  await logIn(context, who);
  return context;
}

export async function logIn(context, who) {
  const answer = await context.request.post('/api/v1/login', { data: { username: who.name, password: who.password } });
  if (!answer.ok()) throw new Error(`${who.name} cannot log in: ${answer.status()} ${await answer.text()}`);
  return answer.json();
}

/** A page whose complaints are wrong: what the policy forbids, errors of scripts, requests to anywhere else. */
export async function watched(context) {
  const page = await context.newPage();
  page.on('console', (line) => {
    const text = line.text();
    // The status of an answer is looked at where it is awaited.
    if (line.type() === 'error' && !text.startsWith('Failed to load resource: the server responded with a status of 4')) wrong(`${page.url()}: ${text}`);
  });
  page.on('pageerror', (error) => wrong(`${page.url()}: ${error}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(`${world.url}/`) && !/^(data|blob|about):/.test(request.url())) wrong(`${page.url()} asks ${request.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  return page;
}

const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
/** Rules that colours decide. */
const COLOURS = ['color-contrast', 'link-in-text-block'];

/** Has axe look at the page as it is; only colours, where asked. */
export async function sound(page, what, colours = false) {
  await page.evaluate(axe);
  const found = await page.evaluate(
    ({ tags, rules }) => globalThis.axe.run(document, { resultTypes: ['violations'], runOnly: rules ? { type: 'rule', values: rules } : { type: 'tag', values: tags } })
      .then((result) => result.violations.map((violation) => ({
        id: violation.id, help: violation.help, nodes: violation.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.html.slice(0, 160)} ${node.any.map((one) => one.message).join('; ').slice(0, 200)}`), count: violation.nodes.length,
      }))),
    { tags: TAGS, rules: colours ? COLOURS : null },
  );
  for (const violation of found) wrong(`${what}: axe ${violation.id} (${violation.count}): ${violation.help}\n    ${violation.nodes.join('\n    ')}`);
  return found.length === 0;
}

/** Whether the page fits its window, and what sticks out. */
export async function fits(page, what) {
  const { wide, inner, out } = await page.evaluate(() => {
    const inner = document.documentElement.clientWidth;
    const scrolls = (element) => { for (let at = element.parentElement; at; at = at.parentElement) if (/auto|scroll|hidden|clip/.test(getComputedStyle(at).overflowX)) return true; return false; };
    const out = [...document.body.querySelectorAll('*')].filter((element) => element.getBoundingClientRect().right > inner + 1 && !scrolls(element)).slice(0, 3).map((element) => element.outerHTML.slice(0, 120));
    return { wide: document.documentElement.scrollWidth, inner, out };
  });
  check(wide <= inner, `${what}: ${wide} px of content in ${inner} px: ${out.join(' | ')}`);
}

export async function picture(page, name, whole = true) {
  await page.screenshot({ path: join(world.pictures, `${name}.png`), fullPage: whole, animations: 'disabled' });
}

/** The code of a shared secret (base32) at a time (RFC 6238). */
export function code(secret, steps = 0) {
  const bits = [...secret.replace(/[=\s]/g, '').toUpperCase()].map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const mac = createHmac('sha1', key).update(counter).digest();
  const at = mac[19] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

/** Texts of the mails to somebody, the oldest first. */
export function mails(to) {
  const plain = (raw) => {
    const part = raw.replaceAll('\r\n', '\n').split(/\n--/).find((one) => /content-type: text\/plain/i.test(one)) ?? raw;
    const [head, ...rest] = part.split('\n\n');
    const body = rest.join('\n\n');
    if (/transfer-encoding: base64/i.test(head)) return Buffer.from(body, 'base64').toString();
    if (!/transfer-encoding: quoted-printable/i.test(head)) return body;
    return Buffer.from(body.replaceAll('=\n', '').replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString();
  };
  let files = [];
  try { files = readdirSync(world.spool).filter((name) => name.endsWith('.eml')).sort(); } catch { /* None yet. */ }
  return files.map((name) => readFileSync(join(world.spool, name), 'utf8')).filter((raw) => new RegExp(`^to:.*${to.replace(/[.+]/g, '\\$&')}`, 'im').test(raw)).map(plain);
}

/** The mail to somebody that comes after `seen` others. */
export async function mail(to, seen = 0) {
  for (let waited = 0; waited < 20_000; waited += 50) {
    const all = mails(to);
    if (all.length > seen) return all[seen];
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`no mail to ${to} after ${seen}`);
}

export const temporary = (text) => text.match(/\b[A-Za-z0-9]{5}(?:-[A-Za-z0-9]{5}){3}\b/)[0];

/** Pushes with docker. */
function dock(user, password, repository, tag, layers) {
  const host = new URL(world.registry).host;
  const folder = mkdtempSync(join(tmpdir(), 'image-'));
  layers.forEach((layer, at) => writeFileSync(join(folder, `part-${at}`), layer));
  const run = (program, args, input = '') => execFileSync(program, args, { input, stdio: ['pipe', 'inherit', 'inherit'] });
  run('tar', ['-C', folder, '-cf', `${folder}.tar`, '.']);
  run('docker', ['login', '-u', user, '--password-stdin', host], password);
  run('docker', ['import', `${folder}.tar`, `${host}/${repository}:${tag}`]);
  run('docker', ['push', `${host}/${repository}:${tag}`]);
}

/** Pushes to the registry: with docker where a daemon runs, else as it would; layers are texts. */
export async function push(user, password, repository, tag, layers) {
  if (world.docker) return dock(user, password, repository, tag, layers);
  const digest = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const asked = new URL('/token', world.auth);
  asked.search = new URLSearchParams({ service: world.service, scope: `repository:${repository}:pull,push` });
  const given = await fetch(asked, { headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` } });
  if (!given.ok) throw new Error(`no token for ${user}: ${given.status} ${await given.text()}`);
  const { token } = await given.json();
  const headers = { authorization: `Bearer ${token}` };
  const blob = async (bytes) => {
    const begun = await fetch(`${world.registry}/v2/${repository}/blobs/uploads/`, { method: 'POST', headers });
    if (begun.status !== 202) throw new Error(`upload: ${begun.status} ${await begun.text()}`);
    const at = new URL(begun.headers.get('location'), world.registry);
    at.searchParams.set('digest', digest(bytes));
    const put = await fetch(at, { method: 'PUT', headers: { ...headers, 'content-type': 'application/octet-stream' }, body: bytes });
    if (put.status !== 201) throw new Error(`blob: ${put.status} ${await put.text()}`);
    return { digest: digest(bytes), size: bytes.length };
  };
  const parts = layers.map((layer) => Buffer.from(layer));
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Cmd: ['/app'] }, rootfs: { type: 'layers', diff_ids: parts.map(digest) }, history: parts.map((_, at) => ({ created_by: `COPY part-${at} /` })) }));
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...(await blob(config)) },
    layers: await Promise.all(parts.map(async (bytes) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...(await blob(bytes)) }))),
  });
  const put = await fetch(`${world.registry}/v2/${repository}/manifests/${tag}`, { method: 'PUT', headers: { ...headers, 'content-type': 'application/vnd.oci.image.manifest.v1+json' }, body: manifest });
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${await put.text()}`);
  return digest(manifest);
}
