//! Passwords: what may be one, and how one is kept (Argon2id, RFC 9106). Hashing is slow on purpose: a few run at a time on
//! blocking threads, a short queue waits, and beyond it the answer is "busy" rather than a machine that stands still.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::secret::{Secret, fill_random};

/// Fewest characters of a password.
pub const MIN_CHARS: usize = 8;
/// Most characters of a password.
pub const MAX_CHARS: usize = 128;
/// Characters of a password whose strength is judged.
const JUDGED_CHARS: usize = 72;
/// Guesses that a password must withstand: at five in a quarter of an hour more than anybody has, and offline, at the cost
/// of a hash, more than most are worth.
const ENOUGH_GUESSES: u64 = 100_000_000;
/// Shortest name that a password must not hold: of fewer letters, many do by chance.
const SHORTEST_NAME: usize = 4;
/// Hashes that may wait for their turn, per running one.
const QUEUE: usize = 32;

static LEAKED: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("leaked_passwords.txt").lines().collect());

/// Why a password was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("the password is too short: use at least {MIN_CHARS} characters")]
    TooShort,
    /// Too long.
    #[error("the password is too long: use at most {MAX_CHARS} characters")]
    TooLong,
    /// Known to every attacker.
    #[error("the password is one of the most common leaked passwords: choose another")]
    Leaked,
    /// Made of what its owner is called.
    #[error("the password contains the user's name: choose another")]
    ContainsName,
    /// Guessed in few tries by whoever knows how people make passwords.
    #[error(
        "the password is too easy to guess: use a few more words, or a longer one without dates, names and patterns"
    )]
    Weak,
}

/// More passwords are being checked than this machine has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked; try again in a moment")]
pub struct Busy;

/// Checks what somebody wants as a password, whoever they are.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(password: &Secret) -> Result<(), PasswordError> {
    check_for(password, "")
}

/// Checks what the user of that name wants as a password.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_for(password: &Secret, name: &str) -> Result<(), PasswordError> {
    let text = password.expose();
    let chars = text.chars().count();
    if chars < MIN_CHARS {
        Err(PasswordError::TooShort)
    } else if chars > MAX_CHARS {
        Err(PasswordError::TooLong)
    } else if LEAKED.contains(text.to_lowercase().as_str()) {
        Err(PasswordError::Leaked)
    } else if contains_name(text, name) {
        Err(PasswordError::ContainsName)
    } else if is_weak(text, name) {
        Err(PasswordError::Weak)
    } else {
        Ok(())
    }
}

/// Whether a password holds the user's name, or what stands before its `@`, in any case.
fn contains_name(password: &str, name: &str) -> bool {
    let (password, name) = (password.to_lowercase(), name.to_lowercase());
    let local = name.split('@').next().unwrap_or_default();
    local.chars().count() >= SHORTEST_NAME && password.contains(local)
}

/// Whether few guesses find a password (zxcvbn: fewer than about 10^8).
fn is_weak(password: &str, name: &str) -> bool {
    // Its work grows faster than its input; what is beyond only makes a password better.
    let start: String = password.chars().take(JUDGED_CHARS).collect();
    let known: Vec<&str> = name.split(['@', '.', '-', '_', '+']).chain(["wharfinger"]).collect();
    zxcvbn::zxcvbn(&start, &known).guesses() < ENOUGH_GUESSES
}

/// A random password of 100 bits that can be read aloud: `xxxxx-xxxxx-xxxxx-xxxxx`.
#[must_use]
pub fn generate() -> Secret {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0u8; 20];
    fill_random(&mut random);
    let mut text = String::with_capacity(23);
    for (i, byte) in random.iter().enumerate() {
        if i > 0 && i % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    Secret::new(text)
}

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Cost {
    /// What OWASP's password storage guide asks at least: 19 MiB, 2 passes, one lane.
    fn default() -> Self {
        Self { memory: 19_456, passes: 2 }
    }
}

/// Hashes and checks passwords, a bounded number at a time.
#[derive(Debug)]
pub struct Hasher {
    params: Params,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// Memory to work in, kept between hashes: getting it anew costs a third of the time.
    spare: Arc<Mutex<Vec<Vec<Block>>>>,
    /// Something was hashed since the last [`Hasher::rest`].
    busy: AtomicBool,
    /// Checked in place of the hash of somebody who is not there.
    dummy: String,
    /// How many hashes were computed.
    #[cfg(test)]
    pub(crate) computed: std::sync::atomic::AtomicUsize,
}

impl Hasher {
    /// Computes one hash, to say what it costs on this machine.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn measure(&self) -> Result<std::time::Duration, Busy> {
        let (params, password) = (self.params.clone(), generate());
        self.run(move |memory| {
            let begin = std::time::Instant::now();
            let hashed = hash_now(&params, password.expose().as_bytes(), memory);
            hashed.map(|_| begin.elapsed()).map_err(|_| Busy)
        })
        .await?
    }

    /// A hasher that runs `jobs` at a time.
    ///
    /// # Errors
    /// Where the cost is below what Argon2 allows.
    pub fn new(cost: Cost, jobs: usize) -> Result<Self, argon2::Error> {
        let params = Params::new(cost.memory, cost.passes, 1, None)?;
        let jobs = jobs.max(1);
        let mut spare = Vec::new();
        let dummy = hash_now(&params, generate().expose().as_bytes(), &mut spare)?;
        Ok(Self {
            params,
            running: Arc::new(Semaphore::new(jobs)),
            admitted: Arc::new(Semaphore::new(jobs * (1 + QUEUE))),
            spare: Arc::new(Mutex::new(vec![spare])),
            busy: AtomicBool::new(false),
            dummy,
            #[cfg(test)]
            computed: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// Hashes a password with a new salt; the result is a PHC string.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: &Secret) -> Result<String, Busy> {
        let (params, password) = (self.params.clone(), password.clone());
        self.run(move |memory| hash_now(&params, password.expose().as_bytes(), memory)).await?.map_err(|_| Busy)
    }

    /// Whether `hash` is of this password. Without a hash the answer is no, after the same work.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(&self, password: &Secret, hash: Option<&str>) -> Result<bool, Busy> {
        let known = hash.is_some();
        let (hash, password) = (hash.unwrap_or(&self.dummy).to_owned(), password.clone());
        let same = self.run(move |memory| verify_now(&hash, password.expose().as_bytes(), memory)).await?;
        Ok(same & known)
    }

    /// Gives the memory back where nothing was hashed since the last call. To be called now and then.
    pub(crate) fn rest(&self) {
        if !self.busy.swap(false, Ordering::Relaxed) {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Busy)?;
        #[cfg(test)]
        self.computed.fetch_add(1, Ordering::SeqCst);
        self.busy.store(true, Ordering::Relaxed);
        let spare = Arc::clone(&self.spare);
        // The permits go with the work: a client that hangs up does not make room for another hash while its own runs.
        let task = tokio::task::spawn_blocking(move || {
            let _permits = (admitted, running);
            let mut memory = spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let result = work(&mut memory);
            spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
            result
        });
        task.await.map_err(|_| Busy)
    }
}

fn hash_now(params: &Params, password: &[u8], memory: &mut Vec<Block>) -> Result<String, argon2::Error> {
    let mut salt = [0u8; 16];
    fill_random(&mut salt);
    let mut out = [0u8; Params::DEFAULT_OUTPUT_LEN];
    compute(params, password, &salt, &mut out, memory)?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(|_| argon2::Error::MemoryTooMuch)?,
        salt: Some(Salt::new(&salt).map_err(|_| argon2::Error::SaltTooShort)?),
        hash: Some(Output::new(&out).map_err(|_| argon2::Error::OutputTooShort)?),
    };
    Ok(hash.to_string())
}

fn verify_now(hash: &str, password: &[u8], memory: &mut Vec<Block>) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let (Some(salt), Some(expected), Ok(params)) = (&hash.salt, &hash.hash, Params::try_from(&hash)) else {
        return false;
    };
    let mut out = vec![0u8; expected.as_ref().len()];
    hash.algorithm == ARGON2ID_IDENT
        && compute(&params, password, salt.as_ref(), &mut out, memory).is_ok()
        && bool::from(out.ct_eq(expected.as_ref()))
}

fn compute(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut Vec<Block>,
) -> Result<(), argon2::Error> {
    memory.resize(params.block_count(), Block::default());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone()).hash_password_into_with_memory(
        password,
        salt,
        out,
        memory.as_mut_slice(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CHEAP: Cost = Cost { memory: 64, passes: 1 };

    #[test]
    fn passwords_are_long_enough_and_not_leaked() {
        assert_eq!(check(&"1234567".into()), Err(PasswordError::TooShort));
        assert_eq!(check(&"Password123".into()), Err(PasswordError::Leaked));
        assert_eq!(check(&"é".repeat(129).into()), Err(PasswordError::TooLong));
        assert_eq!(check(&"aB3$xy9Q".into()), Ok(()));
        assert_eq!(check(&"é".repeat(128).into()), Err(PasswordError::Weak));
        for weak in ["aaaaaaaaaaaa", "abcdefgh1", "qwertzui1", "Summer2024", "January12"] {
            assert!(check(&weak.into()).is_err(), "{weak}");
        }
        let named = check_for(&"my.Ann.Smith.9x!".into(), "ann.smith@acme.example");
        assert_eq!(named, Err(PasswordError::ContainsName));
        assert_eq!(check_for(&"annual brass kettle".into(), "ann@acme.example"), Ok(()), "too short to count");
        assert_eq!(check(&"a quiet harbour".into()), Ok(()));
        assert_eq!(check(&generate()), Ok(()));
        assert!(LEAKED.iter().all(|p| p.chars().count() >= MIN_CHARS && *p == p.to_lowercase()));
    }

    #[tokio::test]
    async fn a_hash_is_of_its_password_only() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let hash = hasher.hash(&"correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(hasher.verify(&"correct horse".into(), Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&"correct horsf".into(), Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&"correct horse".into(), None).await.unwrap());
        assert!(!hasher.verify(&"correct horse".into(), Some("$argon2id$broken")).await.unwrap());
        assert_ne!(hash, hasher.hash(&"correct horse".into()).await.unwrap());
        let dear = Hasher::new(Cost { memory: 128, passes: 2 }, 1).unwrap();
        assert!(dear.verify(&"correct horse".into(), Some(&hash)).await.unwrap(), "the cost is the hash's own");
    }

    #[tokio::test]
    async fn memory_is_given_back_where_nobody_logs_in() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let kept = || hasher.spare.lock().unwrap().len();
        hasher.hash(&"x".into()).await.unwrap();
        hasher.rest();
        assert_eq!(kept(), 1, "it was used a moment ago");
        hasher.rest();
        assert_eq!(kept(), 0);
        assert!(hasher.hash(&"x".into()).await.is_ok());
    }

    #[tokio::test]
    async fn beyond_the_queue_it_is_busy() {
        let hasher = Hasher::new(CHEAP, 1).unwrap();
        let all = u32::try_from(1 + QUEUE).unwrap();
        let taken = Arc::clone(&hasher.admitted).try_acquire_many_owned(all).unwrap();
        assert_eq!(hasher.hash(&"x".into()).await, Err(Busy));
        drop(taken);
        assert!(hasher.hash(&"x".into()).await.is_ok());
    }
}
