#!/usr/bin/env python3
"""How long the server takes over each page of the console, with many users and repositories in a SQLite database.

  bench-console.py [COUNT]        100000 of each, where it is not said

Starts the binary (WHARFINGER_BIN, else the one of `cargo build`) in a directory of its own, fills its database, logs in and asks
for each page 30 times on one connection. Prints the median and the slowest in milliseconds, and the bytes of the page as they
come over the wire. Asserts nothing.
"""

import http.client
import json
import os
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

FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at, verified)
SELECT printf('u%025d', i), printf('user%06d@example.com', i), 'local', FALSE, FALSE, 1, 1, :now - i, TRUE FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO memberships (org_id, user_id, name, active, created_at, first_name, last_name, accepted_at)
SELECT :org, printf('u%025d', i), printf('user%06d@example.com', i), i % 17 > 0, :now - i, 'First' || i % 997, 'Last' || i % 991, :now - i FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
SELECT printf('r%025d', i), :org, :project, printf('main/web/team%03d/app%06d', i % 500, i), :now - i * 2, :now - i FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO blobs (org_id, digest, size, object_key, created_at)
SELECT :org, printf('sha256:%064x', i), 1000000 + i, printf('o%031d', i), :now FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO blob_links (repository_id, digest, org_id, lease_until)
SELECT printf('r%025d', i), printf('sha256:%064x', i), :org, :now FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
SELECT printf('r%025d', i), printf('sha256:%064x', i + 1000000), 'application/vnd.oci.image.manifest.v1+json', 400, :now - i,
       'admin@localhost', CAST('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"' || printf('sha256:%064x', i) || '","size":2},"layers":[]}' AS BLOB) FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO manifest_references (repository_id, manifest, target)
SELECT printf('r%025d', i), printf('sha256:%064x', i + 1000000), printf('sha256:%064x', i) FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
INSERT INTO tags (repository_id, name, digest, updated_at)
SELECT printf('r%025d', i), 'v1', printf('sha256:%064x', i + 1000000), :now - i FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
INSERT INTO tags (repository_id, name, digest, updated_at)
SELECT printf('r%025d', 1), printf('build-%05d', i), printf('sha256:%064x', 1000001), :now - i FROM n;
"""

REPOSITORY = "web/team001/app000001"
PAGES = {
    "admin@localhost": [
        "/orgs/main", "/orgs/main/repositories", "/orgs/main/repositories?q=app0999", f"/orgs/main/repositories/{REPOSITORY}",
        f"/orgs/main/manifests/{REPOSITORY}?reference=v1", f"/orgs/main/compare/{REPOSITORY}?from=v1&to=build-00007", "/orgs/main/projects",
        "/orgs/main/projects/web", "/orgs/main/users", "/orgs/main/users?search=user0999", "/orgs/main/users?role=AUDITOR", "/orgs/main/users/user000007@example.com",
        "/orgs/main/users/user000007@example.com/access", "/orgs/main/groups", "/orgs/main/groups/All%20Local%20Users", "/orgs/main/roles",
        "/orgs/main/machines", "/orgs/main/issuers", "/orgs/main/settings", "/orgs/main/audit", "/orgs/main/keys", "/account",
        "/account/keys", "/account/sessions", "/account/mfa", "/account/terminal",
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


def fill(file, count):
    database = sqlite3.connect(file)
    database.execute("PRAGMA synchronous = OFF")
    (org,) = database.execute("SELECT id FROM orgs WHERE slug = 'main'").fetchone()
    (project,) = database.execute("SELECT id FROM projects WHERE slug = 'web'").fetchone()
    known = {"count": count, "org": org, "project": project, "now": int(time.time())}
    for statement in FILL.split(";\n\n"):
        database.execute(statement, {name: value for name, value in known.items() if f":{name}" in statement})
    database.commit()
    database.execute("PRAGMA optimize")
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
        server.stop()
        began = time.monotonic()
        fill(server.folder / "data/wharfinger.db", count)
        size = (server.folder / "data/wharfinger.db").stat().st_size
        print(f"{count} users and repositories in {time.monotonic() - began:.0f} s; {size >> 20} MiB\n", flush=True)
        server.start()
        print("| page | status | median ms | slowest ms | bytes |\n|---|---|---|---|---|")
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
    print(f"| `{page}` | {answer.status} | {statistics.median(times):.1f} | {max(times):.1f} | {len(body)} |", flush=True)


if __name__ == "__main__":
    main()
