//! Which rows the writer's commits have changed, for caches of what was read from them.
//!
//! Whoever caches something read from rows notes [`Changes::now`] before reading, and keeps the result only as long as
//! [`Changes::since`] says that none of the rows has changed after that. Every change goes through the writer's update
//! hook, whatever statement made it, so that no code has to remember to say so.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Marks that rows share. Two rows of one mark cost a look more, never a wrong answer.
const MARKS: usize = 1 << 14;
/// Rows that one commit notes one by one; beyond this, it has changed everything.
const MOST: usize = 4096;

/// A row of a table, as far as a change of it can be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u16);

impl Mark {
    /// The mark of a row.
    pub(crate) fn of(table: &str, row: i64) -> Self {
        // FNV-1a: the names are ours and the numbers are the database's.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in table.bytes().chain(row.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // The remainder is below the number of marks, which a u16 holds.
        Self((((hash >> 32) ^ hash) % MARKS as u64) as u16)
    }
}

/// What was changed when.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Number of the last commit.
    now: AtomicU64,
    /// Number of the last commit after which nothing read before counts.
    everything: AtomicU64,
    /// Number of the last commit that changed a row of the mark.
    marks: Box<[AtomicU64]>,
    /// What the open transaction has changed.
    open: Mutex<Open>,
    /// Moves where another process commits.
    version: AtomicI64,
}

#[derive(Debug, Default)]
struct Open {
    marks: Vec<Mark>,
    everything: bool,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            now: AtomicU64::new(1),
            everything: AtomicU64::new(0),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            open: Mutex::default(),
            version: AtomicI64::new(0),
        }
    }
}

impl Changes {
    /// Tables whose rows are cached. A repository's row changes with every push, and nothing but its name is cached: what
    /// changes that says so by [`Changes::note_everything`].
    fn is_watched(table: &str) -> bool {
        matches!(table, "orgs" | "projects" | "manifests" | "tags" | "blobs" | "blob_links")
    }

    /// The open transaction has changed a row.
    pub(crate) fn note(&self, table: &str, row: i64) {
        if !Self::is_watched(table) {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.marks.len() < MOST { open.marks.push(Mark::of(table, row)) } else { open.everything = true }
    }

    /// The open transaction has ended, whichever way: what it changed counts from now on.
    pub(crate) fn publish(&self) {
        // Held to the end: the numbers are given out by one at a time.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { marks, everything } = std::mem::take(&mut *open);
        if marks.is_empty() && !everything {
            return;
        }
        let next = self.now.load(Ordering::SeqCst) + 1;
        if everything {
            self.everything.store(next, Ordering::SeqCst);
        }
        for mark in marks {
            self.marks[usize::from(mark.0)].store(next, Ordering::SeqCst);
        }
        self.now.store(next, Ordering::SeqCst);
    }

    /// The open transaction changes what rows mean that it does not touch.
    pub(crate) fn note_everything(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).everything = true;
    }

    /// Nothing that was read before counts any more.
    pub(crate) fn everything(&self) {
        self.note_everything();
        self.publish();
    }

    /// Whether the number that other processes move is another than it was. At the first look it is not known.
    pub(crate) fn others(&self, version: i64) -> bool {
        self.version.swap(version, Ordering::SeqCst) != version
    }

    /// To be asked before reading.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Whether any of the rows has changed after `read`, the answer of [`Changes::now`] before they were read.
    pub(crate) fn since(&self, read: u64, rows: &[Mark]) -> bool {
        self.everything.load(Ordering::SeqCst) > read
            || rows.iter().any(|mark| self.marks[usize::from(mark.0)].load(Ordering::SeqCst) > read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_for_what_was_read_before_it_and_for_no_other_row() {
        let changes = Changes::default();
        let (one, other) = (Mark::of("tags", 1), Mark::of("tags", 2));
        let before = changes.now();
        changes.note("tags", 1);
        assert!(!changes.since(before, &[one]), "not before it is committed");
        changes.publish();
        assert!(changes.since(before, &[other, one]));
        assert!(!changes.since(before, &[other]));
        assert!(!changes.since(changes.now(), &[one, other]));
    }

    #[test]
    fn a_large_transaction_changes_everything() {
        let changes = Changes::default();
        let before = changes.now();
        for row in 0..=MOST as i64 {
            changes.note("blobs", row);
        }
        changes.publish();
        assert!(changes.since(before, &[]));
        assert!(!changes.since(changes.now(), &[]));
    }

    #[test]
    fn tables_that_nobody_caches_change_nothing() {
        let changes = Changes::default();
        let before = changes.now();
        changes.note("audit_bundles", 1);
        changes.publish();
        assert_eq!(before, changes.now());
    }
}
