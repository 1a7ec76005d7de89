//! Keyset pages: `?limit=&after=` → `{"items": […], "next": …}`. The cursor is the key of the last item.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{Error, Result};

/// Items of a page where the caller does not say.
const DEFAULT: i64 = 100;
/// Most items of a page.
pub(crate) const MAX: i64 = 500;
/// Longest cursor: longer than any name.
const MAX_CURSOR: usize = 512;

/// Which page.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of their key.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; null where this is the last.
    pub next: Option<String>,
}

/// A page's bounds, checked.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Most items.
    pub(crate) limit: usize,
    /// The key that the page begins after.
    pub(crate) after: String,
}

impl Bounds {
    /// How many rows to ask for: one more than are returned tells whether there is a next page.
    pub(crate) fn fetch(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(MAX) + 1
    }

    /// Makes the page of at most `fetch` rows; `key` is what a row is listed by.
    pub(crate) fn page<R, T>(&self, rows: Vec<R>, key: impl Fn(&R) -> &str, render: impl FnMut(R) -> T) -> Page<T> {
        self.page_by(rows, |row| key(row).to_owned(), render)
    }

    /// As [`Bounds::page`], of rows that are listed by more than a name.
    pub(crate) fn page_by<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> String,
        render: impl FnMut(R) -> T,
    ) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(key);
        Page { items: rows.into_iter().map(render).collect(), next }
    }
}

impl PageQuery {
    /// Checks the bounds.
    ///
    /// # Errors
    /// 422 for a limit or cursor that cannot be.
    pub(crate) fn bounds(self) -> Result<Bounds> {
        let limit = self.limit.unwrap_or(DEFAULT);
        let after = self.after.unwrap_or_default();
        if !(1..=MAX).contains(&limit) {
            return Err(Error::invalid("limit", &format!("use 1 to {MAX}")));
        }
        if after.len() > MAX_CURSOR || after.contains('\0') {
            return Err(Error::invalid("after", "use the `next` of the page before"));
        }
        Ok(Bounds { limit: usize::try_from(limit).unwrap_or(1), after })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(limit: Option<i64>) -> PageQuery {
        PageQuery { limit, after: None }
    }

    #[test]
    fn limits_are_bounded() {
        for bad in [0, -1, 501, i64::MAX] {
            assert!(query(Some(bad)).bounds().is_err(), "{bad}");
        }
        assert_eq!(query(None).bounds().unwrap().fetch(), 101);
        assert!(PageQuery { limit: None, after: Some("x".repeat(513)) }.bounds().is_err());
    }

    #[test]
    fn a_next_page_is_promised_only_where_there_is_one() {
        let bounds = query(Some(2)).bounds().unwrap();
        let full = bounds.page(vec!["a", "b"], |row| row, |row| row);
        assert_eq!((full.items, full.next), (vec!["a", "b"], None));
        let more = bounds.page(vec!["a", "b", "c"], |row| row, |row| row);
        assert_eq!((more.items, more.next), (vec!["a", "b"], Some("b".to_owned())));
    }
}
