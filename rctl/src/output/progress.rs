//! Progress of long work, on standard error and only for people.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar or a spinner; silent where nobody looks.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose end is not known; counted in `unit`.
    pub(crate) fn spinner(doing: &str, unit: &str) -> Self {
        let template = format!("{{spinner}} {doing}: {{pos}} {unit}");
        Self::start(ProgressBar::no_length(), &template)
    }

    /// Bytes whose number is not known.
    pub(crate) fn bytes(doing: &str) -> Self {
        Self::start(ProgressBar::no_length(), &format!("{{spinner}} {doing}: {{bytes}} ({{bytes_per_sec}})"))
    }

    /// So many steps.
    pub(crate) fn steps(doing: &str, count: usize) -> Self {
        let bar = ProgressBar::new(count as u64);
        Self::start(bar, &format!("{doing} [{{bar:30}}] {{pos}}/{{len}}"))
    }

    fn start(bar: ProgressBar, template: &str) -> Self {
        // It shows nothing during the first moment: most work is done by then.
        let shown = std::io::stderr().is_terminal();
        bar.set_draw_target(if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if shown {
            bar.enable_steady_tick(Duration::from_millis(125));
        }
        Self(bar)
    }

    /// So much is done.
    pub(crate) fn at(&self, position: usize) {
        self.0.set_position(position as u64);
    }

    /// Says something beside the bar.
    pub(crate) fn hide(&self, and: impl FnOnce()) {
        self.0.suspend(and);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
