//! What each host does to a module that asks for it: the facts of the personalities, one by one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod filters;
mod interleaving;
mod life;
mod requests;
mod rules;
