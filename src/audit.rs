//! `wharfinger audit …`: proving audit logs where the master key and the database are.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use auditchain::verify::{self, Report};
use identity::audit::export::SEAL;
use storage::audit::{chains, check};
use storage::clock::rfc3339;
use storage::{Db, orgs};

use crate::config::Config;
use crate::stores;

/// Chains whose ids are read at a time.
const CHAINS: i64 = 200;
/// Exit status where it could not be found out, as for wrong usage.
const UNKNOWN: u8 = 2;

/// `wharfinger audit verify`: an export, by its chain and its seal. Opens no database and makes no file.
pub(crate) fn verify(config: &Config, file: &Path) -> ExitCode {
    match prove(config, file) {
        Ok(Ok(report)) => {
            println!("{}", found(&report));
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("not genuine: {error}");
            ExitCode::FAILURE
        }
        Err(error) => unknown(&error),
    }
}

fn prove(config: &Config, file: &Path) -> Result<Result<Report, verify::Error>> {
    let key = stores::read_master_key(&config.master_key_file)
        .context("without the master key (--master-key-file) nobody can tell the seal from a forged one")?;
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).with_context(|| format!("opening {}", file.display()))?))
    };
    match verify::verify(reader, Some(&|data| key.mac(SEAL, data))) {
        Err(verify::Error::Io(error)) => Err(error).with_context(|| format!("reading {}", file.display())),
        proven => Ok(proven),
    }
}

/// What an export proves, in words.
fn found(report: &Report) -> String {
    let (header, trailer) = (&report.header, &report.trailer);
    let whose = if header.org.is_empty() { "the platform" } else { &header.org };
    let which = if header.is_whole() {
        format!("every event from {} to {}", header.after_seq + 1, header.head_seq)
    } else {
        format!("events that its filter chose ({})", header.filter)
    };
    let at = rfc3339(header.exported_at_ms.div_euclid(1000));
    format!("genuine: {} events of {whose}, exported at {at}: {which}; chain and seal are good", trailer.count)
}

/// `wharfinger audit check`: the chains in the database, every event of them.
pub(crate) async fn check(config: &Config, org: Option<&str>) -> ExitCode {
    match check_all(config, org).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => unknown(&error),
    }
}

async fn check_all(config: &Config, org: Option<&str>) -> Result<bool> {
    if let Some(path) = config.sqlite_path() {
        ensure!(path.exists(), "there is no database {}", path.display());
    }
    let db = stores::database(config).await?;
    let whole = match org {
        Some(slug) => {
            let found = orgs::find_by_slug(&mut db.read().await?, slug).await?;
            check_one(&db, &found.with_context(|| format!("there is no organization {slug}"))?.id).await?
        }
        None => {
            let (mut whole, mut after) = (true, None);
            loop {
                let page = chains(&mut db.read().await?, after.as_deref(), CHAINS).await?;
                for org_id in &page {
                    whole &= check_one(&db, org_id).await?;
                }
                match page.into_iter().next_back() {
                    Some(last) => after = Some(last),
                    None => break whole,
                }
            }
        }
    };
    db.close().await;
    Ok(whole)
}

async fn check_one(db: &Db, org_id: &str) -> Result<bool> {
    let org = orgs::find(&mut db.read().await?, org_id).await?;
    let name = match &org {
        Some(org) => &org.slug,
        None if org_id.is_empty() => "the platform",
        None => org_id,
    };
    let checked = check::check(db, org_id).await.with_context(|| format!("reading the audit log of {name}"))?;
    match &checked.flaw {
        None => println!("{name}: {} events, whole", checked.events),
        Some(flaw) => println!("{name}: NOT whole after {} good events: {flaw}", checked.events),
    }
    Ok(checked.flaw.is_none())
}

fn unknown(error: &anyhow::Error) -> ExitCode {
    eprintln!("wharfinger: {error}");
    error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
    ExitCode::from(UNKNOWN)
}
