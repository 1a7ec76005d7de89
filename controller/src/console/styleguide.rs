//! `/styleguide`: every component on one page. In debug builds alone.

use askama::Template;
use axum::response::Response;

use super::{FormProblem, Frame, Section, Viewer, page};
use crate::error::Result;

#[derive(Template)]
#[template(path = "console/styleguide.html")]
struct Page {
    frame: Frame,
    problem: Option<FormProblem>,
}

/// The page.
pub(crate) async fn show(viewer: Viewer) -> Result<Response> {
    let problem = FormProblem { field: "name", message: "Use lower-case letters, digits and dashes.".into() };
    page(&Page { frame: viewer.frame(Section::None), problem: Some(problem) })
}

#[derive(Template)]
#[template(path = "console/styleguide_dialog.html")]
struct DialogPage {
    frame: Frame,
    problem: Option<FormProblem>,
}

/// A page that a script opens as a dialog.
pub(crate) async fn dialog(viewer: Viewer) -> Result<Response> {
    page(&DialogPage { frame: viewer.frame(Section::None), problem: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use crate::testing::{ADMIN, Controller};

    const STYLES: &str = include_str!("assets/console.css");

    /// Classes that the guide does not show, and why.
    const ELSEWHERE: &[(&str, &str)] = &[
        ("door", "the pages before somebody is logged in, which have no frame"),
        ("aside", "on a door alone"),
        ("foot", "below a door alone"),
        ("toast", "after something was done, for a moment"),
        ("done", "a script says by it that something is copied"),
    ];

    /// The classes that the style sheet tells of.
    fn styled() -> BTreeSet<String> {
        let mut rest = STYLES.to_owned();
        while let (Some(from), Some(to)) = (rest.find("/*"), rest.find("*/")) {
            rest.replace_range(from..to + 2, " ");
        }
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').collect()
        };
        let named = rest.split('.').skip(1).map(word);
        named.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())).collect()
    }

    #[tokio::test]
    async fn every_class_of_the_style_sheet_is_shown() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let mut shown = BTreeSet::new();
        for path in ["/styleguide", "/styleguide/dialog"] {
            let page = controller.page(&admin, path).await.expect(200).raw;
            let lists = page.split("class=\"").skip(1).filter_map(|rest| rest.split('"').next());
            shown.extend(lists.flat_map(str::split_whitespace).map(str::to_owned));
        }
        let styled = styled();
        assert!(styled.contains("matrix") && styled.len() > 80, "{styled:?}");
        let missing: Vec<_> = styled
            .iter()
            .filter(|name| !shown.contains(*name) && !ELSEWHERE.iter().any(|(known, _)| known == name))
            .collect();
        assert!(missing.is_empty(), "show these in the style guide: {missing:?}");
        let idle: Vec<_> =
            ELSEWHERE.iter().filter(|(name, _)| shown.contains(*name) || !styled.contains(*name)).collect();
        assert!(idle.is_empty(), "these need no exception: {idle:?}");
    }
}
