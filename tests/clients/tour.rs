//! The README's tour, executed as written: the lines of every fenced `console` block between
//! `<!-- tour:begin -->` and `<!-- tour:end -->`, in one bash, stopping at the first that fails.
//!
//! A line that starts with `$ ` is a command, `> ` continues it, and other lines show output.

use std::fs;

use crate::desk::Desk;
use crate::docker::dockerd;
use crate::support::server::root;

fn commands(readme: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut in_tour, mut in_block) = (false, false);
    for line in readme.lines() {
        match line.trim() {
            "<!-- tour:begin -->" => in_tour = true,
            "<!-- tour:end -->" => in_tour = false,
            "```console" if in_tour => in_block = true,
            "```" => in_block = false,
            _ if in_block => {
                if let Some(command) = line.strip_prefix("$ ") {
                    commands.push(command.to_owned());
                } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), commands.last_mut()) {
                    last.push('\n');
                    last.push_str(more);
                }
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn the_tour_in_the_readme_works_as_written() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let commands = commands(&readme);
    assert!(commands.len() >= 6, "the tour has {} commands", commands.len());
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    let script = format!(
        "set -euo pipefail\n{}\n",
        commands.iter().fold(String::new(), |script, command| {
            format!("{script}printf '$ %s\\n' {}\n{command}\n", quoted(command))
        })
    );
    let script = desk.write("tour.sh", &script);
    desk.run("bash", &[&script]);
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
