//! What became of the sessions that this process had to do with last.

use std::collections::{HashMap, VecDeque};

/// Sessions that are remembered.
const MOST: usize = 8_192;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no row.
    Begun,
    /// It has a row.
    Stored,
    /// It was finished or cancelled: its URL, which may still say that it only began, is worth nothing.
    Ended,
}

/// The sessions, the oldest of which are forgotten first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    stages: HashMap<String, Stage>,
    order: VecDeque<String>,
}

impl Recent {
    pub(super) fn stage(&self, id: &str) -> Option<Stage> {
        self.stages.get(id).copied()
    }

    /// Returns what was known before.
    pub(super) fn note(&mut self, id: &str, stage: Stage) -> Option<Stage> {
        if let Some(known) = self.stages.get_mut(id) {
            return Some(std::mem::replace(known, stage));
        }
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.stages.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.stages.insert(id.to_owned(), stage);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::default();
        assert_eq!(recent.note("a", Stage::Begun), None);
        assert_eq!(recent.note("a", Stage::Ended), Some(Stage::Begun));
        for n in 0..MOST {
            recent.note(&n.to_string(), Stage::Begun);
        }
        assert_eq!(recent.stage("a"), None);
        assert_eq!(recent.stage("0"), Some(Stage::Begun));
        assert_eq!((recent.stages.len(), recent.order.len()), (MOST, MOST));
    }
}
