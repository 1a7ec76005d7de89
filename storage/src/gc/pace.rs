//! How much garbage collection takes on at a time, and how long it rests, so that whoever else writes hardly notices.

use std::time::Duration;

/// Rows a second, beside others. A blob is three: a link, itself, and an object.
const RATE: f64 = 4000.0;
/// Rows of a transaction in `SQLite`: at least, where nobody else writes, and at most.
const FEW: usize = 8;
const MANY: usize = 64;
const MOST: usize = 200;
/// Objects whose rows one transaction deletes at most: it touches every page of their content.
const OBJECTS: i64 = 50;
/// Transactions that run at a time in `PostgreSQL`, one for each row, so that none waits for two.
const AT_ONCE: usize = 4;
/// Whoever waited longer for their turn is not alone.
const ALONE: Duration = Duration::from_micros(200);

/// The pace of one pass.
#[derive(Debug)]
pub(super) struct Pace {
    one_writer: bool,
    rows: usize,
}

impl Pace {
    /// For a database with one writer at a time, or with many.
    pub(super) fn new(one_writer: bool) -> Self {
        Self { one_writer, rows: if one_writer { FEW } else { AT_ONCE } }
    }

    /// The rows to go on with, and those for later.
    pub(super) fn next<'a, T>(&self, rows: &'a [T]) -> (&'a [T], &'a [T]) {
        rows.split_at(self.rows.min(rows.len()))
    }

    /// How many of these rows one transaction takes on.
    pub(super) fn together(&self) -> usize {
        if self.one_writer { MOST } else { 1 }
    }

    /// How many objects' rows one transaction deletes.
    pub(super) fn objects(&self) -> i64 {
        if self.one_writer { i64::try_from(self.rows).unwrap_or(OBJECTS).min(OBJECTS) } else { OBJECTS }
    }

    /// How long to rest after a transaction of so many rows that took so long, of which it waited for its turn. Who waits long
    /// for a turn, as a process beside the one that serves does, takes on the more.
    pub(super) fn rest(&mut self, rows: usize, took: Duration, waited: Duration) -> Duration {
        if !self.one_writer {
            return Duration::ZERO;
        }
        if waited < ALONE {
            self.rows = (self.rows * 2).min(MANY);
            return Duration::ZERO;
        }
        self.rows = ((RATE * took.as_secs_f64()) as usize).clamp(FEW, MOST);
        Duration::from_secs_f64(rows as f64 / RATE).saturating_sub(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn beside_others_it_rests_and_takes_on_what_the_rate_needs() {
        let mut pace = Pace::new(true);
        assert_eq!(pace.objects(), 8);
        assert_eq!(pace.rest(40, MS(2), MS(1)), MS(8), "40 rows are worth 10 ms");
        assert_eq!(pace.next(&[0; 500]).0.len(), FEW);
        assert_eq!(pace.rest(8, MS(40), MS(39)), MS(0));
        assert_eq!(pace.next(&[0; 500]).0.len(), 160, "who waits 40 ms for a turn");
        pace.rest(8, MS(900), MS(899));
        assert_eq!((pace.next(&[0; 500]).0.len(), pace.next(&[0; 3]).0.len()), (MOST, 3));
    }

    #[test]
    fn alone_it_does_not_rest() {
        let mut pace = Pace::new(true);
        for rows in [16, 32, 64, 64] {
            assert_eq!(pace.rest(8, MS(2), Duration::ZERO), MS(0));
            assert_eq!(pace.next(&[0; 500]).0.len(), rows);
        }
        let mut many = Pace::new(false);
        assert_eq!(many.rest(1, MS(1), MS(1)), MS(0));
        assert_eq!((many.next(&[0; 500]).0.len(), many.together(), many.objects()), (AT_ONCE, 1, OBJECTS));
    }
}
