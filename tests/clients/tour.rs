//! The README's tour, executed as written: the lines of every fenced `console` block between
//! `<!-- tour:begin -->` and `<!-- tour:end -->`, in one bash, stopping at the first that fails.
//!
//! A line that starts with `$ ` is a command, `> ` continues it, and other lines show output.
//! Before them the server is started as the README says, on its own ports, in a network and a mount
//! namespace of the tour's own; `PASSWORD` is what it printed, `CONTROLLER` where the README says, and the directory holds `./data`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::desk::find;
use crate::support::server::{binary, root};

fn commands(readme: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut in_tour, mut in_block) = (false, false);
    for line in readme.lines() {
        match line.trim() {
            "<!-- tour:begin -->" => in_tour = true,
            "<!-- tour:end -->" => in_tour = false,
            "```console" if in_tour => in_block = true,
            "```" => in_block = false,
            _ if in_block => {
                if let Some(command) = line.strip_prefix("$ ") {
                    commands.push(command.to_owned());
                } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), commands.last_mut()) {
                    last.push('\n');
                    last.push_str(more);
                }
            }
            _ => {}
        }
    }
    commands
}

/// Starts docker and the server, and reads the password that a first start prints.
const BEFORE: &str = r#"
set -euo pipefail
ip link set lo up
mount --bind "$TOUR/hosts" /etc/hosts
if [ -d /etc/docker ]; then mount --bind "$TOUR/docker" /etc/docker; fi
dockerd --data-root "$TOUR/dockerd" --exec-root "$TOUR/dockerd-run" -p "$TOUR/dockerd.pid" -H "$DOCKER_HOST" \
  --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs >"$TOUR/dockerd.log" 2>&1 &
docker=$!
wharfinger >"$TOUR/server.log" 2>&1 &
server=$!
trap 'status=$?; [ $status = 0 ] || tail -n 40 "$TOUR/server.log" >&2; kill $server $docker 2>/dev/null; wait; exit $status' EXIT
for _ in $(seq 300); do
  if docker info >/dev/null 2>&1 && curl -fsS http://127.0.0.1:6001/readyz >/dev/null 2>&1; then break; fi
  sleep 0.1
done
curl -fsS http://127.0.0.1:6001/readyz >/dev/null
PASSWORD=$(sed -n 's/^ *Admin .* password \([^ ]*\) .*/\1/p' "$TOUR/server.log")
[ -n "$PASSWORD" ]
CONTROLLER=https://localhost
"#;

#[test]
fn the_tour_in_the_readme_works_as_written() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let commands = commands(&readme);
    assert!(commands.len() >= 6, "the tour has {} commands", commands.len());
    let dir = tempfile::Builder::new().prefix("tour-").tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a written file");
    for name in ["docker", "home", "bin"] {
        fs::create_dir(dir.path().join(name)).expect("a directory");
    }
    write("hosts", "127.0.0.1 localhost\n::1 localhost\n");
    for (program, name) in [(binary(), "wharfinger"), (binary().with_file_name("rctl"), "rctl")] {
        assert!(program.exists(), "{} is not built", program.display());
        std::os::unix::fs::symlink(program, dir.path().join("bin").join(name)).expect("a link to the program");
    }
    let steps = commands.iter().map(|command| format!("printf '$ %s\\n' {}\n{command}\n", quoted(command)));
    write("tour.sh", &format!("{BEFORE}{}", steps.collect::<String>()));
    let path =
        |first: &Path| format!("{}:{}:/usr/sbin:/sbin", first.display(), std::env::var("PATH").unwrap_or_default());
    for program in ["docker", "dockerd", "curl", "ip", "jq"] {
        find(program);
    }
    let output = Command::new("timeout")
        .args(["--kill-after=10", "300", "unshare", "--mount", "--net", "--propagation", "private", "bash", "tour.sh"])
        .current_dir(dir.path())
        .env("TOUR", dir.path())
        .env("HOME", dir.path().join("home"))
        .env("DOCKER_HOST", format!("unix://{}", dir.path().join("docker.sock").display()))
        .env("PATH", path(&dir.path().join("bin")))
        .output()
        .expect("the tour starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
