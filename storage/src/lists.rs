//! Lists of names in one row: to hand a row over costs this program more than to find it costs the database.

/// Names that need no escaping in JSON, which no quote or backslash is part of, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Names {
    /// How many.
    count: i64,
    /// Joined by `","`, as in JSON.
    joined: String,
}

/// Between two names.
const BETWEEN: &str = "\",\"";

impl Names {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Cuts the last where there is one more than `limit`, of which no more than one more was read; true where it was.
    pub fn cut(&mut self, limit: usize) -> bool {
        if usize::try_from(self.count).is_ok_and(|count| count <= limit) {
            return false;
        }
        self.joined.truncate(self.joined.rfind(BETWEEN).unwrap_or(0));
        self.count -= 1;
        true
    }

    /// The last; empty where there is none.
    #[must_use]
    pub fn last(&self) -> &str {
        self.joined.rsplit(BETWEEN).next().unwrap_or_default()
    }

    /// One after another.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.joined.split(BETWEEN).take(usize::try_from(self.count).unwrap_or(0))
    }

    /// As a JSON array.
    #[must_use]
    pub fn to_json(&self) -> String {
        if self.is_empty() { "[]".to_owned() } else { ["[\"", &self.joined, "\"]"].concat() }
    }
}

/// Statements that have a page of names for [`Names`], from a statement that has a row for each.
macro_rules! names_of {
    ($page:literal) => {
        concat!(
            "SELECT COUNT(*) AS count, COALESCE(STRING_AGG(name, '\",\"'), '') AS joined FROM (",
            $page,
            ") AS page"
        )
    };
}
pub(crate) use names_of;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        Names { count: names.len() as i64, joined: names.join(BETWEEN) }
    }

    #[test]
    fn a_name_more_than_wanted_is_cut_and_the_last_of_the_page_is_known() {
        let mut three = names(&["a", "b", "c"]);
        assert!(!three.cut(3));
        assert_eq!((three.last(), three.to_json().as_str()), ("c", r#"["a","b","c"]"#));
        assert!(three.cut(2));
        assert_eq!((three.last(), three.to_json().as_str()), ("b", r#"["a","b"]"#));
        assert_eq!(three.iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn no_names_are_an_empty_array() {
        let mut one = names(&["a"]);
        assert!(one.cut(0), "there is more than none");
        for mut none in [one, names(&[]), Names::default()] {
            assert!(!none.cut(0));
            assert_eq!(
                (none.is_empty(), none.last(), none.to_json().as_str(), none.iter().count()),
                (true, "", "[]", 0)
            );
        }
    }
}
