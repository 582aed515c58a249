//! The `durpina` command.
fn main() {}
