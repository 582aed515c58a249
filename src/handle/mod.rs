//! Upstreams and peers with the predecessor's methods: all that changes one.

pub mod peer;
mod script;
pub mod upstream;

#[cfg(test)]
mod tests;
