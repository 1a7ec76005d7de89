//! Wharfinger on the command line.

fn main() {}
