//! What one worker knows: its copies of upstreams, and the pools from which it picks.

pub(crate) mod candidate;
pub(crate) mod directory;
pub(crate) mod peer;
pub(crate) mod pool;
pub(crate) mod view;
