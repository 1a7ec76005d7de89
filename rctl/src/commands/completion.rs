//! Completion scripts.

use clap::Args;
use clap_complete::Shell;

use crate::error::{Error, Result};

/// Print a completion script.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  source <(rctl completion bash)\n  rctl completion zsh > \"${fpath[1]}/_rctl\"\n  \
    rctl completion fish > ~/.config/fish/completions/rctl.fish"
)]
pub(crate) struct Completion {
    /// For which shell
    #[arg(value_name = "bash|zsh|fish", hide_possible_values = true)]
    shell: Shell,
}

impl Completion {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::Usage`] for shells that are not tested.
    pub(crate) fn run(&self) -> Result<()> {
        if !matches!(self.shell, Shell::Bash | Shell::Zsh | Shell::Fish) {
            return Err(Error::Usage("there are scripts for bash, zsh and fish".into()));
        }
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::cli::command(), "rctl", &mut script);
        crate::output::print(&String::from_utf8_lossy(&script))
    }
}
