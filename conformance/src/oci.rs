//! Runs the OCI distribution-spec conformance program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::results::{Outcome, Summary};

/// Where to run the program, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The registry, as `https://host:port` or `http://host:port`.
    #[arg(long, env = "CONFORMANCE_REGISTRY")]
    registry: String,
    /// The repository that is pushed to and pulled from.
    #[arg(long, env = "CONFORMANCE_REPO1")]
    repo1: String,
    /// The repository that blobs are mounted into.
    #[arg(long, env = "CONFORMANCE_REPO2")]
    repo2: String,
    /// The user to log in as; the password comes from `CONFORMANCE_PASSWORD` only.
    #[arg(long, env = "CONFORMANCE_USERNAME")]
    username: Option<String>,
    /// A PEM file with the root to trust, in place of the system's.
    #[arg(long, env = "CONFORMANCE_CA")]
    ca: Option<PathBuf>,
    /// The specification version to test; repeat for several.
    #[arg(long = "version", default_values = ["1.1", "dev"])]
    versions: Vec<String>,
    /// A result that may be skipped, by its name in the summary; repeat for several.
    #[arg(long = "allow-skip")]
    allow_skip: Vec<String>,
    /// Where reports are left, one folder a version.
    #[arg(long, default_value = "artifacts/conformance")]
    artifacts: PathBuf,
    /// The conformance program, as `make tools` builds it.
    #[arg(long, default_value = "target/tools/bin/oci-conformance")]
    program: PathBuf,
}

/// Every switch of the program that its defaults leave off for some version, and the rest for good measure.
const SWITCHES: &[&str] = &[
    "API_PING",
    "API_PULL",
    "API_PUSH",
    "API_BLOBS_ATOMIC",
    "API_BLOBS_DELETE",
    "API_BLOBS_DIGEST_HEADER",
    "API_BLOBS_MOUNT_ANONYMOUS",
    "API_BLOBS_UPLOAD_CANCEL",
    "API_MANIFESTS_ATOMIC",
    "API_MANIFESTS_DELETE",
    "API_MANIFESTS_DIGEST_HEADER",
    "API_MANIFESTS_TAG_PARAM",
    "API_TAGS_ATOMIC",
    "API_TAGS_DELETE",
    "API_TAGS_LIST",
    "API_REFERRER",
    "DATA_IMAGE",
    "DATA_INDEX",
    "DATA_INDEX_LIST",
    "DATA_SPARSE",
    "DATA_ARTIFACT",
    "DATA_SUBJECT",
    "DATA_SUBJECT_MISSING",
    "DATA_ARTIFACT_LIST",
    "DATA_SUBJECT_LIST",
    "DATA_DATA_FIELD",
    "DATA_NONDISTRIBUTABLE",
    "DATA_CUSTOM_FIELDS",
    "DATA_NO_LAYERS",
    "DATA_EMPTY_BLOB",
    "DATA_SHA512",
];

/// Runs every version asked for, prints a table of them, and fails if any version does.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.program.is_file(), "{} is not there: run `make tools`", options.program.display());
    let mut summaries = Vec::new();
    for version in &options.versions {
        let summary = run_version(options, version).with_context(|| format!("version {version}"))?;
        summaries.push((version.as_str(), summary));
    }
    let table = crate::results::table(&summaries);
    print!("{table}");
    fs::write(options.artifacts.join("summary.txt"), &table).context("write the summary")?;
    let mut problems = Vec::new();
    for (version, summary) in &summaries {
        problems
            .extend(summary.problems(&options.allow_skip).into_iter().map(|problem| format!("{version}: {problem}")));
    }
    if !problems.is_empty() {
        bail!("{} problems:\n  {}", problems.len(), problems.join("\n  "));
    }
    Ok(())
}

fn run_version(options: &Options, version: &str) -> Result<Summary> {
    let folder = options.artifacts.join(format!("oci-{version}"));
    // A program that fails to load its configuration exits 0 and writes nothing: no old result may stand in.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let folder = folder.canonicalize().context("find the artifacts")?;
    let status = command(options, version, &folder)?.status().context("start the conformance program")?;
    let read = |name: &str| {
        fs::read_to_string(folder.join(name))
            .with_context(|| format!("{name} was not written, see {}", folder.display()))
    };
    let summary = Summary::parse(&read("results.yaml")?, &read("junit.xml")?)?;
    ensure!(
        status.success() || summary.count(Outcome::Fail) > 0,
        "the program ended with {status} but reports no failure, see {}",
        folder.display()
    );
    Ok(summary)
}

fn command(options: &Options, version: &str, folder: &Path) -> Result<Command> {
    let (scheme, registry) = options.registry.split_once("://").context("--registry needs https:// or http://")?;
    let tls = match scheme {
        "https" => "enabled",
        "http" => "disabled",
        other => bail!("no scheme that a registry speaks: {other}"),
    };
    let log = File::create(folder.join("output.log")).context("create the log")?;
    let mut command = Command::new(options.program.canonicalize().context("find the conformance program")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OCI_")) {
        command.env_remove(name);
    }
    command
        .current_dir(folder)
        .env("OCI_REGISTRY", registry.trim_end_matches('/'))
        .env("OCI_TLS", tls)
        .env("OCI_REPO1", &options.repo1)
        .env("OCI_REPO2", &options.repo2)
        .env("OCI_CACHE_AUTH", "true")
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", folder)
        .envs(SWITCHES.iter().map(|switch| (format!("OCI_{switch}"), "true")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log);
    if let Some(username) = &options.username {
        let password = std::env::var("CONFORMANCE_PASSWORD").context("a user needs CONFORMANCE_PASSWORD")?;
        command.env("OCI_USERNAME", username).env("OCI_PASSWORD", password);
    }
    if let Some(ca) = &options.ca {
        command.env("SSL_CERT_FILE", ca.canonicalize().with_context(|| format!("find {}", ca.display()))?);
    }
    Ok(command)
}
