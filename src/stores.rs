//! What a process of this program opens: the database, the byte store, the master key, the identity core.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use identity::audit::PullEvents;
use identity::{Identity, MasterKey, Options};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use storage::objects::Objects;
use storage::uploads::Lifetimes;
use storage::{Clock, Db, signing_keys};

use crate::cli::Service;
use crate::config::{AuditPulls, Config};
use crate::files::{private_dir, read_bounded, write_atomically};

/// The `service` that access tokens are for: their audience.
pub(crate) const TOKEN_SERVICE: &str = "wharfinger";

/// What exists: rows and bytes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// Rows.
    pub(crate) db: Db,
    /// Bytes.
    pub(crate) objects: Objects,
    /// The time.
    pub(crate) clock: Clock,
    /// How long things are kept.
    pub(crate) lifetimes: Lifetimes,
}

/// Everything below the services; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    /// What exists.
    pub(crate) content: Content,
    /// Who may do what.
    pub(crate) identity: Identity,
}

impl Content {
    /// Opens the database, bringing its schema up to date, and the byte store.
    ///
    /// # Errors
    /// Says what could not be opened.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let db = database(config).await?;
        db.migrate().await.context("bringing the database's schema up to date")?;
        let url = config.blob_url.clone();
        let objects = tokio::task::spawn_blocking(move || Objects::open(&url))
            .await?
            .with_context(|| format!("opening the byte store {}", config.blob_url))?;
        let lifetimes = Lifetimes {
            grace: config.gc_grace.seconds(),
            upload_idle: config.upload_timeout.seconds().max(1),
            ..Lifetimes::default()
        };
        Ok(Self { db, objects, clock: clock(), lifetimes })
    }
}

impl Stores {
    /// Opens everything, making the master key where this is the first start.
    ///
    /// # Errors
    /// Says what could not be opened.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let content = Content::open(config).await?;
        let master = master_key(&config.master_key_file, &content.db).await?;
        let mut options = Options::new(config.external_url(Service::Authsvc), TOKEN_SERVICE);
        options.clock = content.clock.clone();
        options.controller_url = config.external_url(Service::Controller);
        options.pull_events = match config.audit_pulls {
            AuditPulls::Each => PullEvents::Each,
            AuditPulls::Minute => PullEvents::Minute,
        };
        options.federation_allow_private = config.federation_allow_private;
        let identity =
            Identity::open(content.db.clone(), master, options).await.context("opening the identity core")?;
        Ok(Self { content, identity })
    }
}

/// The system's clock; in a debug build one that tests move, where they name the file that says by how much.
fn clock() -> Clock {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os("WHARFINGER_TEST_CLOCK_FILE") {
        return Clock::Shifted(Path::new(&file).into());
    }
    Clock::System
}

/// [`Content::open`] for a command: nobody else sets the installation up meanwhile.
///
/// # Errors
/// As there.
pub(crate) async fn content(config: &Config) -> Result<Content> {
    let _setup = SetupLock::take(&config.data_dir)?;
    Content::open(config).await
}

/// [`Stores::open`] for a command: nobody else sets the installation up meanwhile.
///
/// # Errors
/// As there.
pub(crate) async fn stores(config: &Config) -> Result<Stores> {
    let _setup = SetupLock::take(&config.data_dir)?;
    Stores::open(config).await
}

/// Connects to the database, without touching its schema.
///
/// # Errors
/// Where there is none to be had.
pub(crate) async fn database(config: &Config) -> Result<Db> {
    private_dir(&config.data_dir)?;
    if let Some(folder) = config.sqlite_path().and_then(Path::parent).filter(|p| !p.as_os_str().is_empty()) {
        private_dir(folder)?;
    }
    // Not the URL: a password may be in it.
    Db::connect(config.database_url.expose()).await.context("opening the database (database_url)")
}

/// Reads the master key; makes it where there is none and nothing yet depends on one.
async fn master_key(path: &Path, db: &Db) -> Result<MasterKey> {
    if !path.exists() {
        if !signing_keys::list(&mut db.read().await?).await.context("reading the signing keys")?.is_empty() {
            bail!(
                "the master key {} is missing, but the database was set up with one: bring the file back from a backup \
                 (or name it with --master-key-file)",
                path.display()
            );
        }
        let key = MasterKey::generate();
        write_atomically(path, format!("{}\n", key.to_hex().as_str()).as_bytes(), 0o600)?;
        return Ok(key);
    }
    read_master_key(path)
}

/// Reads the master key; makes none.
///
/// # Errors
/// Where there is none to be read, or the file holds something else.
pub(crate) fn read_master_key(path: &Path) -> Result<MasterKey> {
    let text = String::from_utf8(read_bounded(path, 4096)?).unwrap_or_default();
    MasterKey::from_hex(text.trim())
        .with_context(|| format!("{} does not hold a master key: 64 hexadecimal characters", path.display()))
}

/// Held while a process makes what an installation needs: schema, master key, private CA, first accounts. Processes that
/// start at once on one data folder do so one after another, so that none takes half of another's work for its own.
#[derive(Debug)]
pub(crate) struct SetupLock {
    _file: File,
}

impl SetupLock {
    /// Waits for the lock of a data folder. It ends with the value, or with the process, however that ends. Blocks.
    ///
    /// # Errors
    /// What the file system said.
    pub(crate) fn take(data_dir: &Path) -> Result<Self> {
        private_dir(data_dir)?;
        let path = data_dir.join("setup.lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.with_context(|| format!("opening {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Held while the registry serves a `SQLite` database: a second one would take the first one's uploads for dead.
#[derive(Debug)]
pub(crate) struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the lock beside a database's file. It ends with the process, however that ends.
    ///
    /// # Errors
    /// Where another process holds it.
    pub(crate) fn take(database: &Path) -> Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = Path::new(&path);
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            private_dir(folder)?;
        }
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = open.with_context(|| format!("opening {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => bail!(
                "another wharfinger serves the registry from {}: with SQLite one process can; use PostgreSQL for more",
                database.display()
            ),
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sqlite_database_is_served_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("folder/wharfinger.db");
        let held = ServeLock::take(&database).unwrap();
        let error = ServeLock::take(&database).unwrap_err().to_string();
        assert!(error.contains("another wharfinger") && error.contains("PostgreSQL"), "{error}");
        drop(held);
        assert!(ServeLock::take(&database).is_ok());
    }
}
