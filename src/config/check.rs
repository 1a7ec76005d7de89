//! `wharfinger config check`: everything that can be known to be wrong without starting.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use storage::names::Slug;
use url::Url;

use super::{Config, Password, Settings, Source, Tls};
use crate::cli::Service;

/// What a check found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Every setting, its value and where that comes from.
    pub(crate) settings: String,
    /// What is wrong, in words that say what to do.
    pub(crate) problems: Vec<String>,
}

/// Variables that look as if they were meant as settings and are none: a typing error there is silently a default. Those
/// that Kubernetes makes for a service of that name (`WHARFINGER_PORT…`, `WHARFINGER_SERVICE_…`) are left out.
pub(crate) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    names
        .filter(|name| name.starts_with("WHARFINGER_"))
        .filter(|name| !name.starts_with("WHARFINGER_PORT") && !name.starts_with("WHARFINGER_SERVICE_"))
        .filter(|name| !Settings::VARIABLES.contains(&name.as_str()))
        .collect()
}

/// Checks the configuration and renders it. Nothing is made or changed.
pub(crate) fn report(config: &Config, sources: &BTreeMap<&'static str, Source>) -> Report {
    Report { settings: render(config, sources), problems: problems(config) }
}

fn render(config: &Config, sources: &BTreeMap<&'static str, Source>) -> String {
    let values = values(config);
    let name_width = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let value_width = values.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let mut text = String::new();
    if let Some(file) = &config.file {
        text.push_str(&format!("# {}\n", file.display()));
    }
    for (name, value) in &values {
        let source = sources.get(name).copied().unwrap_or(Source::Default);
        text.push_str(&format!("{name:name_width$} = {value:value_width$}  # {source}\n"));
    }
    text
}

/// Every setting as it holds; secrets are not shown.
fn values(config: &Config) -> Vec<(&'static str, String)> {
    let quoted = |value: &dyn Display| format!("\"{value}\"");
    let path = |path: &Path| format!("\"{}\"", path.display());
    let url = |service| quoted(&config.external_url(service));
    let (tls, cert, key) = match &config.tls {
        Tls::Off => ("\"off\"", None, None),
        Tls::Private => ("\"on\"", None, None),
        Tls::Files { cert, key } => ("\"on\"", Some(cert), Some(key)),
    };
    let certificate = |file: Option<&PathBuf>, name: &str| match (file, &config.tls) {
        (Some(file), _) => path(file),
        (None, Tls::Private) => path(&config.pki_dir().join(name)),
        (None, _) => "(none)".to_owned(),
    };
    let password = |password: &Password| match password {
        Password::Generated => "(generated at the first start)".to_owned(),
        Password::Given(_) => "***".to_owned(),
        Password::File(file) => format!("(in {})", file.display()),
    };
    let smtp = config.mail.smtp.as_ref();
    vec![
        ("data_dir", path(&config.data_dir)),
        ("hostname", quoted(&config.hostname)),
        ("registry_listen", quoted(&config.registry_listen)),
        ("auth_listen", quoted(&config.auth_listen)),
        ("controller_listen", quoted(&config.controller_listen)),
        ("admin_listen", quoted(&config.admin_listen)),
        ("database_url", quoted(&without_password(config.database_url.expose()))),
        ("blob_url", quoted(&config.blob_url)),
        ("tls", tls.to_owned()),
        ("tls_cert", certificate(cert, "server.crt")),
        ("tls_key", certificate(key, "server.key")),
        ("registry_external_url", url(Service::Registry)),
        ("auth_external_url", url(Service::Authsvc)),
        ("controller_external_url", url(Service::Controller)),
        ("trusted_proxies", quoted(&config.trusted_proxies)),
        ("federation_allow_private", config.federation_allow_private.to_string()),
        ("log_format", format!("\"{:?}\"", config.log_format).to_lowercase()),
        ("log_level", quoted(&config.log_level)),
        ("master_key_file", path(&config.master_key_file)),
        ("max_manifest_size", quoted(&config.max_manifest_size)),
        ("max_blob_size", quoted(&config.max_blob_size)),
        ("audit_pulls", format!("\"{:?}\"", config.audit_pulls).to_lowercase()),
        ("cache_size", quoted(&config.cache_size)),
        ("max_connections", config.max_connections.to_string()),
        ("body_timeout", quoted(&config.body_timeout)),
        ("drain_timeout", quoted(&config.drain_timeout)),
        ("gc_grace", quoted(&config.gc_grace)),
        ("gc_interval", quoted(&config.gc_interval)),
        ("upload_timeout", quoted(&config.upload_timeout)),
        ("mail_from", quoted(&config.mail.from)),
        ("mail_dir", path(&config.mail.dir)),
        ("smtp_ca_file", smtp.and_then(|smtp| smtp.ca_file.as_deref()).map_or("(none)".to_owned(), path)),
        ("smtp_url", smtp.map_or("(none: mails go to mail_dir)".to_owned(), |smtp| quoted(&smtp))),
        ("org", quoted(&config.first.org)),
        ("admin_email", quoted(&config.first.admin_email)),
        ("admin_password", password(&config.first.admin_password)),
        ("operator_email", quoted(&config.first.operator_email)),
        ("operator_password", password(&config.first.operator_password)),
    ]
}

/// A database URL for the eyes of others.
fn without_password(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else { return "(not a URL)".to_owned() };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return format!("{}://…", url.scheme());
    }
    // `?password=` is another place for it.
    url.set_query(None);
    url.into()
}

fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |problem: Option<String>| problems.extend(problem);
    note(config.first.org.parse::<Slug>().err().map(|error| format!("org: {error}")));
    note(crate::logs::parse(&config.log_level).err().map(|error| format!("{error:#}")));
    note(database(config));
    note(folder(&config.data_dir, "data_dir"));
    note(blobs(config));
    if let Tls::Files { cert, key } = &config.tls {
        note(crate::tls::load(cert, key).err().map(|error| format!("tls: {error:#}")));
    }
    for (name, password) in
        [("admin_password", &config.first.admin_password), ("operator_password", &config.first.operator_password)]
    {
        note(password.read().err().map(|error| format!("{name}_file: {error:#}")));
    }
    match &config.mail.smtp {
        Some(smtp) => note(smtp.ca().err().map(|error| format!("smtp_ca_file: {error:#}"))),
        None => note(folder(&config.mail.dir, "mail_dir")),
    }
    if config.master_key_file.exists() {
        let read = crate::files::read_bounded(&config.master_key_file, 4096);
        note(read.err().map(|error| format!("master_key_file: {error:#}")));
    }
    if config.max_manifest_size.0 < 4 << 20 {
        problems.push("max_manifest_size: clients may rely on 4MiB (distribution-spec, \"Pushing Manifests\")".into());
    }
    problems.extend(same_address(config));
    problems
}

fn database(config: &Config) -> Option<String> {
    let url = config.database_url.expose();
    if let Some(file) = config.sqlite_path() {
        return folder(file.parent().unwrap_or(Path::new(".")), "database_url");
    }
    let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    (!postgres || Url::parse(url).is_err())
        .then(|| "database_url: expected sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE".to_owned())
}

fn blobs(config: &Config) -> Option<String> {
    match config.blob_url.strip_prefix("file://") {
        Some(path) => folder(Path::new(path), "blob_url"),
        None if config.blob_url.contains("://") => Some("blob_url: expected file://PATH".to_owned()),
        None => folder(Path::new(&config.blob_url), "blob_url"),
    }
}

/// A folder must be one that can be written to, or be such that it can be made.
fn folder(path: &Path, name: &str) -> Option<String> {
    let absolute = std::path::absolute(path).ok()?;
    let there = absolute.ancestors().find(|ancestor| ancestor.exists())?;
    if !there.is_dir() {
        return Some(format!("{name}: {} is not a folder", there.display()));
    }
    let probe = there.join(format!(".wharfinger-{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => Some(format!("{name}: {} cannot be written to: {error}", there.display())),
    }
}

fn same_address(config: &Config) -> Option<String> {
    let all = [
        ("registry_listen", config.registry_listen),
        ("auth_listen", config.auth_listen),
        ("controller_listen", config.controller_listen),
        ("admin_listen", config.admin_listen),
    ];
    all.iter().enumerate().find_map(|(i, (name, address))| {
        let (other, _) = all[..i].iter().find(|(_, before)| before == address && address.port() != 0)?;
        Some(format!("{name}: {address} is {other}'s already"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_in_a_database_url_is_not_shown() {
        for url in ["postgres://u:hush@h/d", "postgres://u@h/d?password=hush"] {
            assert!(!without_password(url).contains("hush"), "{url}");
        }
    }

    #[test]
    fn every_setting_is_shown_with_its_source() {
        let loaded = crate::config::testing::loaded(&["--hostname", "example.com", "--gc-grace", "5m"]);
        let shown = report(&loaded.config, &loaded.sources).settings;
        let of = |name: &str| {
            let line = shown.lines().find(|line| line.split(' ').next() == Some(name));
            line.unwrap_or_else(|| panic!("{name} in\n{shown}")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("hostname"), "hostname = \"example.com\" # flag");
        assert_eq!(of("gc_grace"), "gc_grace = \"5m\" # flag");
        assert_eq!(of("registry_external_url"), "registry_external_url = \"https://example.com:6000\" # default");
        let passwords = ["admin_password_file", "operator_password_file"];
        loaded.sources.keys().filter(|name| !passwords.contains(name)).for_each(|name| {
            of(name);
        });
    }

    #[test]
    fn a_variable_with_a_typing_error_is_noticed() {
        let names = ["PATH", "WHARFINGER_ORG", "WHARFINGER_REGISTRY_LISTN", "WHARFINGER_PORT_6000_TCP"];
        assert_eq!(unknown_variables(names.map(str::to_owned).into_iter()), ["WHARFINGER_REGISTRY_LISTN"]);
    }

    #[test]
    fn a_folder_that_can_be_made_is_fine_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(folder(&dir.path().join("a/b/c"), "data_dir"), None);
        assert!(folder(&file.join("a"), "data_dir").unwrap().contains("is not a folder"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
