//! What a request costs whose path a regex has to look at, natively: the worst that a client can do with a path.
//!
//! The routes' patterns are of the kind that goes on to the path's end without finding anything. A path that is longer than a
//! regex looks at is refused, in the time that any refusal takes. Every figure is the least of many rounds.
//!
//! `cargo bench --bench routes`
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used)]

use std::time::Instant;

use durpina::Filter;
use durpina_sim::{Answer, Sent, Sim, Worker};

const ROUNDS: usize = 51;

const PATTERNS: [(&str, &str, &str); 4] = [
    ("one group", r"^/user/(\\d+)$", "1"),
    ("an ending", r"\\.(png|jpg|css|js)$", "a"),
    ("nine groups", r"(.*)/(.*)/(.*)/(.*)/(.*)/(.*)/(.*)/(.*)/(.*)/x", "a/"),
    ("450 states", r"(\\w{1,50}x){9}", "a"),
];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    println!("{:14} {:>10} {:>10}   answer", "pattern", "path", "µs");
    for (name, pattern, unit) in PATTERNS {
        let config = format!(
            r#"{{"upstreams": {{"u": {{"servers": ["10.0.0.1:80"]}}}}, "routes": [{{"regex": "{pattern}", "upstream": "u"}}]}}"#
        );
        for length in [64, 512, 2048, 2049, 8192, 60_000] {
            let sim = Sim::new();
            let mut worker: Worker<Filter> = Worker::start(&sim, &config).unwrap();
            let path: String =
                format!("/user/{}-", unit.repeat(length)).chars().take(length - 1).chain(['-']).collect();
            let mut least = f64::MAX;
            let mut answer = Answer::Untouched;
            for _ in 0..ROUNDS {
                let sent = Sent::get(&path);
                let start = Instant::now();
                answer = worker.send(sent);
                least = least.min(start.elapsed().as_secs_f64() * 1e6);
            }
            let answer = match answer {
                Answer::Refused(status, _) => status.to_string(),
                Answer::Untouched => "untouched".to_owned(),
                other => other.by().to_owned(),
            };
            println!("{name:14} {length:>10} {least:>10.1}   {answer}");
        }
    }
}
