//! The targets without libFuzzer, for a short while: the corpora, and changes of what is in them.
//!
//! It does not know what the code does with its input, so it finds less than `make fuzz`; but it needs nothing, and takes as long as it is
//! told: `FUZZ_SECONDS` for each target, 2 by default. What is found is printed as bytes, and belongs into the corpus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A test that ends by the clock, and not the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use durpina_fuzz::TARGETS;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Another input, made of these.
fn changed(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'-', b' '][random.below(8)],
            2 => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => bytes.truncate(at),
            _ => {
                // The end of another one.
                let other = &corpus[random.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    bytes
}

#[test]
fn nothing_that_is_read_makes_a_target_fail() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let mut found = Vec::new();
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let mut random = Random(1);
        let (start, mut runs) = (Instant::now(), 0_u64);
        let mut run = |bytes: &[u8]| {
            runs += 1;
            let result = std::panic::catch_unwind(|| target(bytes));
            if result.is_err() {
                found.push(format!("{name}: {:?} {bytes:?}", String::from_utf8_lossy(bytes)));
            }
            result.is_ok()
        };
        let mut is_well = corpus.iter().all(|bytes| run(bytes));
        while is_well && start.elapsed() < Duration::from_secs_f64(seconds) {
            is_well = run(&changed(&mut random, &corpus));
        }
        println!("{name}: {runs} executions in {:.1} s", start.elapsed().as_secs_f64());
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Each kind of stored value has one in the corpus that is read: a corpus of another layout finds nothing.
#[test]
fn the_corpus_has_a_value_of_each_kind() {
    let read = |kind: u8| {
        let of_kind = |bytes: &Vec<u8>| bytes.first() == Some(&kind) && durpina::fuzzing::stored(kind, &bytes[1..]).1;
        corpus("stored").iter().any(of_kind)
    };
    let missing: Vec<u8> = (0..durpina::fuzzing::KINDS).filter(|kind| !read(*kind)).collect();
    assert!(missing.is_empty(), "kinds {missing:?}: `cargo test -p durpina-fuzz -- --ignored` writes them anew");
}

/// Writes the values that a filter stores to the corpus.
#[test]
#[ignore = "it writes the corpus: after a change of the layout"]
fn the_stored_values_of_a_filter_become_the_corpus() {
    for (kind, bytes) in durpina_fuzz::stored_by_a_filter() {
        let folder = folder("stored");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("kind-{kind}")), [&[kind], bytes.as_slice()].concat()).unwrap();
    }
}
