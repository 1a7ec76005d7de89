//! How fast a registry is: load programs, the peers, and the report.

mod charts;
mod client;
mod content;
mod http;
mod limits;
mod measure;
mod report;
mod row;
mod run;
mod seed;
mod servers;
mod tls;
mod work;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use client::{Login, Registry};
use measure::Server;
use row::Row;
use servers::{Peer, Pki, Programs, Running};
use work::{Bench, Scale, Spec};

/// What is asked of the benchmark.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Put load on one registry that runs already, and print a JSON object for each workload
    Load(Box<LoadOptions>),
    /// Compare servers: start each, run the workloads on them in turn, keep every row
    Run(Box<run::RunOptions>),
    /// Write the report and the charts from what `run` kept
    Report(report::ReportOptions),
    /// Start a server as `run` does, show how to put load on it, and stop it when the input ends
    Start(StartOptions),
    /// List the workloads
    List,
}

/// Which registry, and which load.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadOptions {
    /// The registry, as `https://host:port` or `http://host:port`
    #[arg(long)]
    url: String,
    /// A workload of `bench list`; a prefix stands for all that begin with it; repeat for several
    #[arg(long = "workload", short, required = true)]
    workloads: Vec<String>,
    /// How large the workloads are
    #[arg(long, value_enum, default_value = "full")]
    scale: Scale,
    /// Repositories are made below this name
    #[arg(long, default_value = "main/bench")]
    base: String,
    /// The user to log in as, where the registry asks for one
    #[arg(long, env = "BENCH_USER")]
    user: Option<String>,
    #[arg(long, env = "BENCH_PASSWORD", hide_env_values = true, hide = true)]
    password: Option<String>,
    #[arg(long, env = "BENCH_API_KEY", hide_env_values = true, hide = true)]
    api_key: Option<String>,
    /// A PEM file with the root to trust
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The server's process: its processor time and memory are measured
    #[arg(long)]
    pid: Option<u32>,
    /// Bytes of a blob, in place of the workload's own
    #[arg(long)]
    bytes: Option<u64>,
    /// Operations, in place of the workload's own
    #[arg(long, conflicts_with = "seconds")]
    count: Option<u64>,
    /// Seconds, in place of the workload's own
    #[arg(long)]
    seconds: Option<f64>,
    /// Things that are there before, in place of the workload's own
    #[arg(long)]
    entries: Option<u64>,
    /// Connections, in place of the workload's own
    #[arg(long, short)]
    concurrency: Option<usize>,
    /// How often each workload runs over what was prepared once
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// What collects garbage, for the shell; `gc` needs it
    #[arg(long)]
    gc_command: Option<String>,
    /// Seconds until what was pushed counts as garbage
    #[arg(long, default_value_t = 0.0)]
    gc_wait: f64,
    /// Print lines for people in place of JSON
    #[arg(long)]
    table: bool,
}

/// Which server to start.
#[derive(Debug, clap::Args)]
pub(crate) struct StartOptions {
    #[arg(value_enum)]
    peer: Peer,
    /// Plain HTTP in place of TLS
    #[arg(long)]
    http: bool,
    /// Where the server keeps its data; deleted at the end
    #[arg(long, default_value = "target/bench/data")]
    data: PathBuf,
    #[command(flatten)]
    programs: Programs,
}

/// Where rows are kept: with the report, which is made of them.
const RESULTS: &str = "conformance/bench/results.json";

/// Does what is asked.
pub(crate) fn run(command: Command) -> Result<()> {
    // Thousands of connections are files, on both sides: servers inherit what this process may have.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).context("raise the limit of open files")?;
    match command {
        Command::Load(options) => load(&options),
        Command::Run(options) => run::run(&options),
        Command::Report(options) => report::write(&options),
        Command::Start(options) => start(&options),
        Command::List => {
            for spec in work::all() {
                println!("{:<22} {}", spec.name, spec.about);
            }
            Ok(())
        }
    }
}

/// The workloads that the names stand for, in the order of the list.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Spec>> {
    let all = work::all();
    for name in names {
        ensure!(all.iter().any(|spec| spec.name.starts_with(name.as_str())), "no workload {name}: see `bench list`");
    }
    let whole = |name: &String| all.iter().any(|spec| spec.name == name);
    let wanted = |spec: &Spec| {
        names.iter().any(|name| spec.name == name || !whole(name) && spec.name.starts_with(name.as_str()))
    };
    Ok(all.iter().filter(|spec| wanted(spec)).cloned().collect())
}

fn start(options: &StartOptions) -> Result<()> {
    let pki = Pki::new(&options.data.join("pki"))?;
    let running = Running::start(options.peer, !options.http, &options.programs, &pki, &options.data)?;
    let login = &running.bench.registry.login;
    for (name, value) in
        [("BENCH_USER", &login.user), ("BENCH_PASSWORD", &login.password), ("BENCH_API_KEY", &login.api_key)]
    {
        if let Some(value) = value {
            println!("export {name}='{value}'");
        }
    }
    let mut command = format!("bench load --url {} --pid {} --ca {}", running.url, running.pid(), pki.ca().display());
    if let Some(collector) = &running.bench.gc_command {
        command.push_str(&format!(" --gc-command '{collector}' --gc-wait {}", running.bench.gc_wait));
    }
    println!("{command} --table -w push-4k");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn load(options: &LoadOptions) -> Result<()> {
    let tls = http::trust(options.ca.as_deref())?;
    let login =
        Login { user: options.user.clone(), password: options.password.clone(), api_key: options.api_key.clone() };
    let bench = Bench {
        registry: Arc::new(Registry::new(&options.url, tls, login)?),
        base: options.base.clone(),
        server: options.pid.map(Server),
        files: None,
        gc_command: options.gc_command.clone(),
        gc_wait: options.gc_wait,
    };
    let mut invalid = 0;
    for spec in chosen(&options.workloads)? {
        let mut spec = spec.at(options.scale);
        spec.bytes = options.bytes.unwrap_or(spec.bytes);
        spec.entries = options.entries.unwrap_or(spec.entries);
        spec.concurrency = options.concurrency.unwrap_or(spec.concurrency).max(1);
        spec.count = options.count.unwrap_or(if options.seconds.is_some() { 0 } else { spec.count });
        spec.seconds = options.seconds.unwrap_or(spec.seconds);
        let mut prepared = bench.prepare(&spec).with_context(|| format!("prepare {}", spec.name))?;
        for run in 0..options.runs {
            if run > 0 && spec.is_used_up() {
                prepared = bench.prepare(&spec)?;
            }
            let row = Row::measure(&bench, &spec, &prepared).with_context(|| spec.name.to_owned())?;
            invalid += u32::from(!row.valid());
            println!("{}", if options.table { row.line() } else { serde_json::to_string(&row)? });
        }
    }
    if invalid > 0 {
        bail!("{invalid} rows are invalid");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_is_one_workload_and_a_prefix_many() {
        let names = |names: &[&str]| -> Vec<&str> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).unwrap().iter().map(|spec| spec.name).collect()
        };
        assert_eq!(names(&["push-4k"]), ["push-4k"]);
        assert_eq!(names(&["push-64m", "gc"]), ["push-64m-c4", "push-64m-c16", "gc"]);
        assert!(chosen(&["pushh".into()]).is_err());
    }
}
