//! How much garbage collection takes on at a time, and how long it rests, so that whoever else writes hardly notices.

use std::time::{Duration, Instant};

/// The part of the time that the one writer's turn is taken for it at first, beside others who write: everybody waits
/// meanwhile.
const SHARE: f64 = 0.05;
/// Whoever makes garbage faster than that share takes away would fill the disk: each time that a pass has lasted as long
/// again, its share is doubled.
const PATIENCE: Duration = Duration::from_secs(600);
/// The share of a pass that goes on and on.
const HALF: f64 = 0.5;
/// Rows of a transaction in `SQLite`: at least, where nobody else writes, and at most.
const FEW: usize = 16;
const MANY: usize = 64;
const MOST: usize = 200;
/// Objects whose rows one transaction deletes at most: it touches every page of their content.
const OBJECTS: i64 = 50;
/// Transactions that run at a time in `PostgreSQL`, one for each row, so that none waits for two.
const AT_ONCE: usize = 4;
/// However long a disk that hangs made one transaction, there is no longer rest after it.
const LONGEST: Duration = Duration::from_secs(1);
/// Whoever waited longer for their turn is not alone: another process writes, whose turns are not counted. Less than that is what it
/// takes to wake two threads on a slow machine.
const ALONE: Duration = Duration::from_millis(1);

/// How long a transaction took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    /// Until its turn had come.
    pub(super) waited: Duration,
    /// From then on until it was ready to be committed, perhaps with others.
    pub(super) held: Duration,
    /// From the beginning until it was committed.
    pub(super) whole: Duration,
    /// Of the transactions of this process it was this one.
    pub(super) number: u64,
}

/// The pace of one pass.
#[derive(Debug)]
pub(super) struct Pace {
    one_writer: bool,
    rows: usize,
    /// The number of the transaction before.
    last: u64,
    begun: Instant,
}

/// The writer's share of a pass that has lasted so long.
fn share(lasted: Duration) -> f64 {
    let doubled = lasted.as_secs() / PATIENCE.as_secs();
    (SHARE * 2_f64.powi(doubled.try_into().unwrap_or(i32::MAX))).min(HALF)
}

impl Pace {
    /// For a database with one writer at a time, or with many.
    pub(super) fn new(one_writer: bool) -> Self {
        Self { one_writer, rows: if one_writer { FEW } else { AT_ONCE }, last: 0, begun: Instant::now() }
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

    /// How long to rest after a transaction of so many rows. Who waits long for a turn, as a process beside the one that serves
    /// does, takes on the more.
    pub(super) fn rest(&mut self, rows: usize, took: &Took) -> Duration {
        if !self.one_writer {
            return Duration::ZERO;
        }
        let others = took.number.saturating_sub(self.last) > 1;
        self.last = took.number;
        if took.waited < ALONE && !others {
            self.rows = (self.rows * 2).min(MANY);
            return Duration::ZERO;
        }
        let share = took.held.div_f64(share(self.begun.elapsed()));
        let fitting = rows as f64 * took.whole.as_secs_f64() / share.as_secs_f64().max(1e-6);
        self.rows = (fitting as usize).clamp(FEW, MOST);
        share.saturating_sub(took.whole).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn took(waited: u64, held: u64, number: u64) -> Took {
        Took { waited: MS(waited), held: MS(held), whole: MS(waited + held), number }
    }

    fn rows(pace: &Pace) -> usize {
        pace.next(&[0; 500]).0.len()
    }

    #[test]
    fn beside_others_it_has_the_turn_for_a_twentieth_of_the_time() {
        let mut pace = Pace::new(true);
        assert_eq!(pace.objects(), 16);
        assert_eq!(pace.rest(32, &took(3, 2, 5)), MS(35), "2 ms are a twentieth of 40");
        assert_eq!(rows(&pace), FEW);
        assert_eq!(pace.rest(16, &took(39, 1, 6)), MS(0));
        assert_eq!(rows(&pace), 32, "who waits 39 ms for a turn of 1");
        pace.rest(32, &took(900, 1, 7));
        assert_eq!((rows(&pace), pace.next(&[0; 3]).0.len()), (MOST, 3));
        assert_eq!(pace.rest(16, &took(0, 1, 9)), MS(19), "somebody had the eighth turn");
        assert_eq!(pace.rest(16, &took(5, 30_000, 10)), MS(1000), "half a minute is not paid for with ten");
    }

    #[test]
    fn a_pass_that_does_not_end_has_more_and_more_of_the_time_and_never_more_than_half() {
        let minutes = |minutes: u64| share(Duration::from_secs(minutes * 60));
        assert_eq!([0, 9, 10, 20, 30].map(minutes), [0.05, 0.05, 0.1, 0.2, 0.4]);
        assert_eq!([40, 600, u64::MAX / 60].map(minutes), [HALF; 3]);
    }

    #[test]
    fn alone_it_does_not_rest() {
        let mut pace = Pace::new(true);
        pace.rest(16, &took(0, 2, 9));
        let slowly = Took { waited: Duration::from_micros(700), ..took(0, 2, 0) };
        for (rows_now, number) in [(32, 10), (64, 11), (64, 12)] {
            assert_eq!(pace.rest(16, &Took { number, ..slowly }), MS(0));
            assert_eq!(rows(&pace), rows_now);
        }
        let mut many = Pace::new(false);
        assert_eq!(many.rest(1, &took(1, 1, 0)), MS(0));
        assert_eq!((rows(&many), many.together(), many.objects()), (AT_ONCE, 1, OBJECTS));
    }
}
