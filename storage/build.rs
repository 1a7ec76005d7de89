//! Rebuilds the crate when a migration changes.

fn main() {
    // The migrations are embedded by a macro that cannot see new files by itself.
    println!("cargo:rerun-if-changed=migrations");
}
