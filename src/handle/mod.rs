//! Upstreams and peers with the predecessor's methods: all that changes one.

pub mod peer;
pub mod upstream;

#[cfg(test)]
mod tests;
