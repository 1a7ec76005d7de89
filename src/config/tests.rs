#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use super::*;

const NO_ENV: fn(&str) -> Option<String> = |_| None;

fn load(args: &[&str], env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    let matches = Cli::command().try_get_matches_from([&["wharfinger"], args].concat())?;
    Loaded::from_matches(&matches, env)
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wharfinger.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn without_a_word_the_defaults_hold() {
    let loaded = load(&[], &NO_ENV).unwrap();
    assert!(matches!(loaded.command, Command::Serve { ref services } if services.is_empty()));
    let config = loaded.config;
    assert_eq!(config.external_url(Service::Registry), "https://localhost:6000");
    assert_eq!(config.external_url(Service::Controller), "https://localhost");
    assert_eq!(config.registry_host(), "localhost:6000");
    assert_eq!(config.sqlite_path(), Some(Path::new("./data/wharfinger.db")));
    assert_eq!(config.tls, Tls::Private);
    assert!(matches!(config.first.admin_password, Password::Generated));
}

#[test]
fn a_flag_wins_over_the_file_before_and_after_the_command() {
    let (_dir, path) = file("hostname = \"from-file\"\nmax_manifest_size = \"4MiB\"\ngc_grace = 7\n");
    for args in [
        ["--config", &path, "--hostname", "from-flag", "serve", "registry"],
        ["serve", "registry", "--config", &path, "--hostname", "from-flag"],
    ] {
        let loaded = load(&args, &NO_ENV).unwrap();
        assert_eq!(loaded.config.hostname, "from-flag");
        assert_eq!(loaded.config.max_manifest_size, Size(4 << 20));
        assert_eq!(loaded.config.gc_grace, Span(7));
        assert_eq!(loaded.sources["hostname"], Source::Flag);
        assert_eq!(loaded.sources["max_manifest_size"], Source::File);
        assert_eq!(loaded.sources["gc_interval"], Source::Default);
    }
}

#[test]
fn the_environment_wins_over_the_file_for_secrets_too_and_debug_hides_them() {
    let (_dir, path) = file("admin_password = \"from the file\"\norg = \"file\"\n");
    let env = |name: &str| (name == "WHARFINGER_ADMIN_PASSWORD").then(|| "from the environment".to_owned());
    let loaded = load(&["--config", &path], &env).unwrap();
    let password = loaded.config.first.admin_password.read().unwrap().unwrap();
    assert_eq!(password.expose(), "from the environment");
    assert_eq!(loaded.config.first.org, "file");
    assert_eq!(loaded.sources["admin_password"], Source::Env("WHARFINGER_ADMIN_PASSWORD"));
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("from the"), "{shown}");
}

#[test]
fn an_unknown_key_is_refused_with_its_name_and_line() {
    let (_dir, path) = file("# a comment\nhostname = \"a\"\nregistry_listn = \"[::]:1\"\n");
    let message = load(&["--config", &path], &NO_ENV).unwrap_err().to_string();
    assert!(message.contains("wharfinger.toml:3: unknown key `registry_listn`"), "{message}");
}

#[test]
fn a_wrong_value_is_refused_with_its_key_and_never_with_a_secret() {
    let (_dir, path) = file("\nregistry_listen = \"6000\"\n");
    let message = load(&["--config", &path], &NO_ENV).unwrap_err().to_string();
    assert!(message.contains(":2: `registry_listen`"), "{message}");
    let (_dir, path) = file("admin_password = 314159\n");
    let message = load(&["--config", &path], &NO_ENV).unwrap_err().to_string();
    assert!(message.contains("admin_password") && !message.contains("314159"), "{message}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    for args in [
        &["--tls", "off", "--tls-cert", "a"][..],
        &["--tls-cert", "a"],
        &["--tls-key", "a"],
        &["--hostname", "a:6000"],
        &["--hostname", ""],
        &["--registry-external-url", "ftp://a"],
        &["--registry-external-url", "https://a/registry"],
        &["--gc-grace", "soon"],
    ] {
        assert!(load(args, &NO_ENV).is_err(), "{args:?}");
    }
    let env = |name: &str| name.starts_with("WHARFINGER_ADMIN_PASSWORD").then(|| "x".to_owned());
    assert!(load(&[], &env).is_err());
}

#[test]
fn secrets_have_no_flag() {
    assert!(load(&["--admin-password", "x"], &NO_ENV).is_err());
    let mut command = Cli::command();
    let help = command.render_long_help().to_string();
    assert!(!help.to_lowercase().contains("admin-password"));
}

#[test]
fn addresses_are_host_names_too() {
    let config = load(&["--hostname", "[fd00::1]", "--tls", "off"], &NO_ENV).unwrap().config;
    assert_eq!(config.external_url(Service::Authsvc), "http://[fd00::1]:5001");
}
