//! How long a page of the audit log takes: fills a chain in a fresh `SQLite` file and asks for pages by every filter.
//!
//! `cargo run -p storage --example bench_audit [EVENTS [FILE]]` prints the median and the 99th percentile in milliseconds. A
//! file that is named is kept, and filled only once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use storage::Db;
use storage::audit::{Direction, Filter, NewEvent, Within, append_all, head, list};

const ORG: &str = "01k00000000000000000000000";
/// Events of one transaction.
const BATCH: i64 = 10_000;
/// Events of a page, as the console and `rctl` ask for them.
const PAGE: i64 = 100;
const RUNS: usize = 50;
/// 2026-01-01, in unix milliseconds.
const BEGIN: i64 = 1_767_225_600_000;
/// About a year of a million events.
const STEP_MS: i64 = 31_000;

fn pick(n: i64, salt: i64, of: i64) -> i64 {
    // SplitMix64: the same events in every run.
    let mut z = (n.wrapping_mul(31).wrapping_add(salt)).wrapping_mul(-7_046_029_254_386_353_131);
    z = (z ^ ((z >> 30) & 0x3_ffff_ffff)).wrapping_mul(-4_658_895_280_553_007_687);
    (z ^ ((z >> 27) & 0x1f_ffff_ffff)).rem_euclid(of)
}

/// Mostly pulls by machines, pushes, log-ins; seldom changes of rights; one in a hundred denied.
fn event(n: i64, last: i64) -> NewEvent {
    let (action, client) = match pick(n, 1, 1000) {
        0..600 => ("image.pull", "docker"),
        600..800 => ("token.grant", "docker"),
        800..900 => ("image.push", "docker"),
        900..970 => ("login", "browser"),
        970..990 => ("tag.delete", "cli"),
        990..998 => ("binding.create", "api"),
        _ => ("user.create", "browser"),
    };
    let rare = n == last / 2;
    // Few do most.
    let user = pick(n, 2, 500) * pick(n, 3, 500) / 500;
    let project = pick(n, 4, 200) * pick(n, 5, 200) / 200;
    let denied = pick(n, 6, 100) == 0;
    NewEvent {
        org_id: ORG.into(),
        at_ms: BEGIN + n * STEP_MS + pick(n, 7, 2000),
        actor_id: format!("01k0000000000000000000{user:04}"),
        actor: if rare { "rare@example.com".into() } else { format!("user{user}@example.com") },
        credential: format!("api-key:01k0000000000000000000{user:04}").into(),
        client: if rare { "server" } else { client }.into(),
        action: if rare { "audit.cut" } else { action }.into(),
        target: format!("main/project{project}/app{}:v{}", pick(n, 8, 40), pick(n, 9, 1000)),
        project: if rare { "rare".into() } else { format!("project{project}") },
        outcome: if rare {
            "error"
        } else if denied {
            "denied"
        } else {
            "ok"
        }
        .into(),
        reason: if denied { "registry.push is missing" } else { "" }.into(),
        address: if rare { "192.0.2.1".into() } else { format!("10.0.{}.{}", pick(n, 10, 8), pick(n, 11, 250)) },
        agent: "docker/28.3.2 go/go1.24.5 git-commit/e77ff99 kernel/6.8.0 os/linux arch/amd64".into(),
        request_id: format!("01k1{n:022}"),
        detail: format!("{{\"digest\":\"sha256:{n:064x}\"}}"),
    }
}

async fn measure(db: &Db, name: &str, filter: &Filter<'_>, page: &str, cursor: Option<i64>, worst: &mut f64) {
    let (mut times, mut found) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut session = db.read().await.unwrap();
        found = list(&mut session, ORG, filter, Direction::Newest, cursor, PAGE).await.unwrap().events.len();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[RUNS / 2], times[RUNS * 99 / 100]);
    *worst = worst.max(p99);
    println!("| {name} | {page} | {found} | {p50:.1} | {p99:.1} |");
}

#[tokio::main]
async fn main() {
    let last: i64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = std::env::args().nth(2).map_or_else(|| dir.path().join("audit.db"), Into::into);
    let db = Db::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    db.migrate().await.unwrap();
    let begun = Instant::now();
    let filled = head(&mut db.read().await.unwrap(), ORG).await.unwrap().seq;
    for first in (filled + 1..=last).step_by(usize::try_from(BATCH).unwrap()) {
        let mut tx = db.begin().await.unwrap();
        let events: Vec<NewEvent> = (first..(first + BATCH).min(last + 1)).map(|n| event(n, last)).collect();
        // Some come alone, some in crowds.
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let size = 1 << pick(first + i64::try_from(rest.len()).unwrap(), 12, 9);
            let (some, others) = rest.split_at(rest.len().min(size));
            append_all(&mut tx, some).await.unwrap();
            rest = others;
        }
        tx.commit().await.unwrap();
    }
    assert_eq!(head(&mut db.read().await.unwrap(), ORG).await.unwrap().seq, last);
    let bytes = std::fs::metadata(&file).unwrap().len();
    println!("{last} events in {:.0} s; {} MiB", begun.elapsed().as_secs_f64(), bytes >> 20);
    println!("| filter | page | events | p50 ms | p99 ms |\n|---|---|---|---|---|");
    let all = Filter::default();
    let (middle, week) = (BEGIN + last / 2 * STEP_MS, 7 * 86_400_000);
    let within = |slug: String| Within { slug, since: 0 };
    let projects: Vec<Within> = (0..20).map(|n| within(format!("project{n}"))).collect();
    let nowhere = ["nowhere", "never"].map(|slug| within(slug.to_owned()));
    let common = [
        ("none", all.clone()),
        ("user", Filter { actor: "user7@example.com", ..all.clone() }),
        ("action", Filter { action: "image.pull", ..all.clone() }),
        ("noun", Filter { action: "image.*", ..all.clone() }),
        ("project", Filter { project: "project3", ..all.clone() }),
        ("twenty projects", Filter { projects: Some(&projects), ..all.clone() }),
        ("outcome", Filter { outcome: "denied", ..all.clone() }),
        ("client", Filter { client: "docker", ..all.clone() }),
        ("address", Filter { address: "10.0.3.77", ..all.clone() }),
        ("since", Filter { since: Some(middle), ..all.clone() }),
        ("until", Filter { until: Some(middle), ..all.clone() }),
        ("a week", Filter { since: Some(middle - week), until: Some(middle), ..all.clone() }),
        ("user and action", Filter { actor: "user7@example.com", action: "tag.delete", ..all.clone() }),
        ("project, ok", Filter { project: "project3", outcome: "ok", ..all.clone() }),
    ];
    let rare = [
        ("user", Filter { actor: "rare@example.com", ..all.clone() }),
        ("action", Filter { action: "audit.cut", ..all.clone() }),
        ("noun", Filter { action: "audit.*", ..all.clone() }),
        ("project", Filter { project: "rare", ..all.clone() }),
        ("projects that have none", Filter { projects: Some(&nowhere), ..all.clone() }),
        ("outcome", Filter { outcome: "error", ..all.clone() }),
        ("client", Filter { client: "server", ..all.clone() }),
        ("address", Filter { address: "192.0.2.1", ..all.clone() }),
        ("a time without events", Filter { since: Some(i64::MAX / 2), ..all.clone() }),
        ("two that never meet", Filter { client: "docker", action: "login", ..all.clone() }),
        ("a user who was never refused", Filter { actor: "rare@example.com", outcome: "denied", ..all.clone() }),
    ];
    let mut worst = 0.0;
    for (name, filter) in &common {
        measure(&db, name, filter, "first", None, &mut worst).await;
        measure(&db, name, filter, "middle", Some(last / 2), &mut worst).await;
    }
    for (name, filter) in &rare {
        measure(&db, name, filter, "rare", None, &mut worst).await;
    }
    println!("worst p99: {worst:.1} ms");
    db.close().await;
}
