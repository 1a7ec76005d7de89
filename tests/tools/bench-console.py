#!/usr/bin/env python3
"""How long the server takes over each page of the console, with many users and repositories in a SQLite database.

  bench-console.py [COUNT]        100000 of each, where it is not said

Starts the binary (WHARFINGER_BIN, else the one of `cargo build`) in a directory of its own, fills its database, logs in and asks
for each page 30 times on one connection. Prints the fastest, the median and the slowest in milliseconds, and the bytes of the page as they
come over the wire. Asserts nothing.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("WHARFINGER_BIN", str(ROOT / "target/debug/wharfinger"))
PASSWORD = "tide tables and the rope locker"
OPERATOR_PASSWORD = "operators keep long passwords too"
RUNS = 30

# The images' config, the only blob that has bytes: pages read no other.
CONFIG = json.dumps({
    "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["/app"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}, "history": [{"created_by": "COPY app /app"}],
}).encode()
CONFIG_DIGEST = "sha256:" + hashlib.sha256(CONFIG).hexdigest()

# Each statement fills `n` with the numbers from 1 to what stands before it: `:count`, or a number.
FILL = """
:count
INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at, verified)
SELECT printf('u%025d', i), printf('user%06d@example.com', i), 'local', FALSE, FALSE, 1, 1, :now - i, TRUE FROM n;

:count
INSERT INTO memberships (org_id, user_id, name, kind, searched, active, created_at, first_name, last_name, accepted_at,
                         last_access_at, last_access_door)
SELECT :org, printf('u%025d', i), printf('user%06d@example.com', i), 'local',
       printf('user%06d@example.com first%d last%d', i, i % 997, i % 991), i % 17 > 0, :now - i,
       'First' || i % 997, 'Last' || i % 991, :now - i, CASE WHEN i % 10 > 0 THEN :now - i END, 'registry' FROM n;

10000
INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at, verified)
SELECT printf('m%025d', i), printf('machine%06d:%s', i, :org), 'machine', FALSE, FALSE, 1, 1, :now - i, FALSE FROM n;

10000
INSERT INTO memberships (org_id, user_id, name, kind, searched, active, created_at, accepted_at)
SELECT :org, printf('m%025d', i), printf('machine%06d:%s', i, :org), 'machine', printf('machine%06d  ', i), i % 17 > 0,
       :now - i, :now - i FROM n;

10000
INSERT INTO groups (id, org_id, name, description, version, created_at)
SELECT printf('g%025d', i), :org, printf('group%05d', i), 'The group of number ' || i, 1, :now - i FROM n;

:count
INSERT INTO group_members (group_id, user_id, org_id, created_at, name, searched)
SELECT printf('g%025d', 1), user_id, org_id, :now, name, searched FROM n JOIN memberships ON org_id = :org AND user_id = printf('u%025d', i);

10000
INSERT INTO group_members (group_id, user_id, org_id, created_at, name, searched)
SELECT printf('g%025d', 2), user_id, org_id, :now, name, searched FROM n JOIN memberships ON org_id = :org AND user_id = printf('u%025d', i * 9);

2
UPDATE groups SET members = (SELECT COUNT(*) FROM group_members x WHERE x.group_id = groups.id) WHERE id IN (SELECT printf('g%025d', i) FROM n);

2
INSERT INTO bindings (id, org_id, group_id, role, project_id, namespaces, builtin, created_at)
SELECT printf('b%025d', i), :org, printf('g%025d', i), CASE i WHEN 1 THEN 'PROJECT_READ_ONLY' ELSE 'PROJECT_ADMIN' END, :project, '[]', FALSE, :now
FROM n;

500
INSERT INTO bindings (id, org_id, user_id, role, namespaces, builtin, created_at, name)
SELECT printf('c%025d', i), :org, printf('u%025d', i * 7), 'AUDITOR', '[]', FALSE, :now, printf('user%06d@example.com', i * 7) FROM n WHERE i * 7 <= :count;

:count
INSERT INTO bindings (id, org_id, user_id, role, project_id, namespaces, builtin, created_at, name)
SELECT printf('d%025d', i), :org, printf('u%025d', i), 'NAMESPACE_READ_ONLY', :project, '[]', FALSE, :now, printf('user%06d@example.com', i) FROM n WHERE i % 3 = 0;

:count
INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
SELECT printf('r%025d', i), :org, :project, printf('main/web/team%03d/app%06d', i % 500, i), :now - i * 2, :now - i FROM n;

:count
INSERT INTO blobs (org_id, digest, size, object_key, created_at)
SELECT :org, layer(i), 1000000 + i, printf('o%031d', i), :now FROM n;

:count
INSERT INTO blob_links (repository_id, digest, org_id, lease_until) SELECT printf('r%025d', i), layer(i), :org, :now FROM n;

:count
INSERT INTO blob_links (repository_id, digest, org_id, lease_until) SELECT printf('r%025d', i), :config, :org, :now FROM n;

:count
INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload, content_size)
SELECT printf('r%025d', i), digest(manifest(i)), 'application/vnd.oci.image.manifest.v1+json', length(manifest(i)), :now - i,
       'admin@localhost', manifest(i), 1000000 + i FROM n;

:count
INSERT INTO manifest_references (repository_id, manifest, target)
SELECT printf('r%025d', i), digest(manifest(i)), layer(i) FROM n UNION ALL
SELECT printf('r%025d', i), digest(manifest(i)), :config FROM n;

:count
INSERT INTO tags (repository_id, name, digest, updated_at, pushed_by)
SELECT printf('r%025d', i), 'v1', digest(manifest(i)), :now - i, 'admin@localhost' FROM n;

10000
INSERT INTO tags (repository_id, name, digest, updated_at, pushed_by)
SELECT printf('r%025d', 1), printf('build-%05d', i), digest(manifest(1)), :now - i, 'admin@localhost' FROM n;

20000
INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload, content_size)
SELECT printf('r%025d', 2), digest(manifest(-i)), 'application/vnd.oci.image.manifest.v1+json', length(manifest(-i)), :now - 2 - i,
       'admin@localhost', manifest(-i), 1000002 FROM n;

20000
INSERT INTO manifest_references (repository_id, manifest, target)
SELECT printf('r%025d', 2), digest(manifest(-i)), :config FROM n;

20000
INSERT INTO tags (repository_id, name, digest, updated_at, pushed_by)
SELECT printf('r%025d', 2), printf('build-%05d', i), digest(manifest(-i)), :now - 2 - i, 'admin@localhost' FROM n;
"""


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(number):
    """Digest of the layer of an image: none has bytes."""
    return f"sha256:{number:064x}"


def manifest(number):
    """The image of a number; what is below 0 is an older one of the second repository."""
    document = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": CONFIG_DIGEST, "size": len(CONFIG)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer(max(number, 2)),
                    "size": 1000000 + max(number, 2)}],
        "annotations": {"number": str(number)},
    }
    return json.dumps(document).encode()


REPOSITORY = "web/team001/app000001"
OLDER = "web/team002/app000002"
USERS, GROUPS, REPOSITORIES, AUDIT = (f"/orgs/main/{noun}" for noun in ("users", "groups", "repositories", "audit"))
PAGES = {
    "admin@localhost": [
        "/orgs/main", REPOSITORIES, f"{REPOSITORIES}?search=app0999", f"{REPOSITORIES}?search=nowhere", f"{REPOSITORIES}?sort=pushed",
        f"{REPOSITORIES}?sort=pushed&search=nowhere", f"{REPOSITORIES}?project=web", f"{REPOSITORIES}?project=web&search=nowhere",
        f"{REPOSITORIES}?project=web&sort=pushed", f"{REPOSITORIES}/{REPOSITORY}", f"{REPOSITORIES}/{REPOSITORY}?sort=pushed",
        f"{REPOSITORIES}/{REPOSITORY}?search=nowhere", f"{REPOSITORIES}/{OLDER}?tab=untagged",
        f"/orgs/main/manifests/{REPOSITORY}?reference=v1", f"/orgs/main/compare/{REPOSITORY}?from=v1&to=build-00007", "/orgs/main/projects",
        "/orgs/main/projects/web", USERS, f"{USERS}?search=user0999", f"{USERS}?search=last77", f"{USERS}?search=nobody",
        f"{USERS}?kind=machine", f"{USERS}?kind=machine&search=nobody", f"{USERS}?status=active&search=nobody", f"{USERS}?status=invited",
        f"{USERS}?status=inactive", f"{USERS}?role=AUDITOR", f"{USERS}?role=INFRA_ADMIN", f"{USERS}?role=PROJECT_READ_ONLY", f"{USERS}?role=PROJECT_ADMIN", f"{USERS}?role=NAMESPACE_READ_ONLY",
        f"{USERS}?project=web", f"{USERS}?project=web&search=nobody", f"{USERS}?group=group00001", f"{USERS}?group=group00002",
        f"{USERS}?group=All+Local+Users&search=nobody", f"{USERS}/user000007@example.com", f"{USERS}/user000007@example.com/access",
        GROUPS, f"{GROUPS}?search=number+777", f"{GROUPS}/All%20Local%20Users", f"{GROUPS}/All%20Local%20Users?search=nobody",
        f"{GROUPS}/group00001", f"{GROUPS}/group00001?search=nobody", f"{GROUPS}/group00002", "/orgs/main/roles",
        "/orgs/main/machines", "/orgs/main/machines?search=machine0099", "/orgs/main/issuers", "/orgs/main/settings",
        AUDIT, f"{AUDIT}?user=admin@localhost", f"{AUDIT}?action=project.create", f"{AUDIT}?project=web&outcome=denied",
        "/orgs/main/keys", "/account", "/account/keys", "/account/sessions", "/account/mfa", "/account/terminal",
    ],
    "operator@localhost": ["/platform", "/platform/orgs", "/platform/orgs/main", "/platform/orgs/main/delete", "/platform/audit"],
}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    def __init__(self, folder):
        self.folder, self.ports = Path(folder), [free_port() for _ in range(4)]
        self.child = None

    def start(self):
        flags = ["--controller-listen", "--registry-listen", "--auth-listen", "--admin-listen"]
        listen = [word for flag, port in zip(flags, self.ports) for word in (flag, f"127.0.0.1:{port}")]
        environment = {**os.environ, "WHARFINGER_ADMIN_PASSWORD": PASSWORD, "WHARFINGER_OPERATOR_PASSWORD": OPERATOR_PASSWORD}
        command = [BINARY, "serve", "--data-dir", str(self.folder / "data"), "--tls", "off", "--log-level", "warn", *listen]
        self.child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("localhost", self.ports[0], timeout=30)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit("bench-console.py: the server does not start")

    def stop(self):
        self.child.terminate()
        self.child.wait()

    def connect(self):
        return http.client.HTTPConnection("localhost", self.ports[0], timeout=120)

    def log_in(self, user):
        connection = self.connect()
        password = OPERATOR_PASSWORD if user.startswith("operator") else PASSWORD
        body = json.dumps({"username": user, "password": password})
        connection.request("POST", "/api/v1/login", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        token = json.loads(answer.read())["csrf_token"]
        return {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}, token


    def push_config(self):
        """Pushes the images' config, as a client does."""
        basic = base64.b64encode(f"admin@localhost:{PASSWORD}".encode()).decode()
        auth = http.client.HTTPConnection("localhost", self.ports[2], timeout=30)
        realm = self.registry("GET", "/v2/").headers["WWW-Authenticate"]
        service = re.search('service="([^"]*)"', realm)[1]
        auth.request("GET", f"/token?service={service}&scope=repository:main/web/config:pull,push", headers={"Authorization": f"Basic {basic}"})
        bearer = {"Authorization": "Bearer " + json.loads(auth.getresponse().read())["token"]}
        upload = self.registry("POST", "/v2/main/web/config/blobs/uploads/", headers=bearer).headers["Location"]
        path = re.sub("^https?://[^/]*", "", upload)
        whole = f"{path}{'&' if '?' in path else '?'}digest={CONFIG_DIGEST}"
        if self.registry("PUT", whole, CONFIG, {**bearer, "Content-Type": "application/octet-stream"}).status != 201:
            sys.exit("bench-console.py: no config")

    def registry(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("localhost", self.ports[1], timeout=30)
        connection.request(method, path, body, headers or {})
        return connection.getresponse()


def fill(file, count):
    database = sqlite3.connect(file)
    database.execute("PRAGMA synchronous = OFF")
    for function in (digest, layer, manifest):
        database.create_function(function.__name__, 1, function, deterministic=True)
    (org,) = database.execute("SELECT id FROM orgs WHERE slug = 'main'").fetchone()
    (project,) = database.execute("SELECT id FROM projects WHERE slug = 'web'").fetchone()
    known = {"count": count, "org": org, "project": project, "config": CONFIG_DIGEST, "now": int(time.time())}
    for numbered in FILL.strip().split(";\n\n"):
        most, statement = numbered.split("\n", 1)
        sql = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) {statement}"
        database.execute(sql, {name: value for name, value in known.items() if f":{name}" in sql})
    database.commit()
    database.close()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        server.start()
        cookie, token = server.log_in("admin@localhost")
        connection = server.connect()
        headers = {**cookie, "X-CSRF-Token": token, "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/orgs/main/projects", json.dumps({"slug": "web"}), headers)
        if connection.getresponse().status != 201:
            sys.exit("bench-console.py: no project")
        server.push_config()
        server.stop()
        began = time.monotonic()
        fill(server.folder / "data/wharfinger.db", count)
        size = (server.folder / "data/wharfinger.db").stat().st_size
        print(f"{count} users and repositories in {time.monotonic() - began:.0f} s; {size >> 20} MiB\n", flush=True)
        server.start()
        print("| page | status | fastest ms | median ms | slowest ms | bytes |\n|---|---|---|---|---|---|")
        try:
            for user, pages in PAGES.items():
                cookie, _ = server.log_in(user)
                connection = server.connect()
                for page in pages:
                    measure(connection, cookie, page)
        finally:
            server.stop()


def measure(connection, cookie, page):
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        connection.request("GET", page, headers=cookie)
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - began) * 1000)
    print(f"| `{page}` | {answer.status} | {min(times):.1f} | {statistics.median(times):.1f} | {max(times):.1f} | {len(body)} |", flush=True)


if __name__ == "__main__":
    main()
