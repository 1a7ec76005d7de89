//! The help of every command, as people read it: what changes here is reviewed.

use std::collections::VecDeque;

use crate::support::{Desk, golden};

/// The commands below one, as its help lists them.
fn below(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.trim().is_empty());
    // Continued descriptions are indented deeper.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_what_it_does() {
    let desk = Desk::bare();
    let mut waiting = VecDeque::from([Vec::<String>::new()]);
    let (mut all, mut count) = (String::new(), 0);
    while let Some(path) = waiting.pop_front() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let help = desk.run(&args).expect(0).out;
        count += 1;
        let global = help.find("Global options:").unwrap_or(help.len());
        let after = help[global..].find("\n\n").map_or("", |end| &help[global + end..]);
        // The global options are the same everywhere: once is enough.
        let shown = if path.is_empty() { help.clone() } else { format!("{}{after}", &help[..global]) };
        all.push_str(&format!("$ rctl {}\n{}\n", args.join(" "), shown.trim_end()));
        all.push('\n');
        let children = below(&help);
        assert!(children.is_empty() || path.len() < 3, "{path:?}");
        if children.is_empty()
            && !["show", "get", "help", "suspend", "resume", "undelete", "health"]
                .contains(&path.last().unwrap().as_str())
        {
            assert!(help.contains("Example"), "no example: {path:?}");
        }
        waiting.extend(children.into_iter().map(|child| path.iter().cloned().chain([child]).collect()));
    }
    assert!(count > 60, "{count}");
    golden("help.txt", &all);
}

#[test]
fn completions_are_made_for_three_shells() {
    let desk = Desk::bare();
    for (shell, word) in [("bash", "complete"), ("zsh", "#compdef rctl"), ("fish", "complete -c rctl")] {
        assert!(desk.run(&["completion", shell]).expect(0).out.contains(word), "{shell}");
    }
    desk.run(&["completion", "powershell"]).expect(2);
}

#[test]
fn the_version_needs_no_server() {
    let desk = Desk::bare();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(desk.run(&["version", "-o", "json"]).expect(0).out, format!("{{\n  \"rctl\": \"{version}\"\n}}\n"));
    assert_eq!(desk.run(&["--version"]).expect(0).out, format!("rctl {version}\n"));
}
