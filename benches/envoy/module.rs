//! What a module costs before its first request: its size, and the time that Envoy takes to compile it.
//!
//! Envoy compiles a module once and hands copies to its workers. Its log has a line when it begins, and one when the
//! first copy is made.

use std::path::Path;

use regex_lite::Regex;

use super::{progress, Modules};
use crate::support::config::Config;
use crate::support::envoy::Setup;
use crate::support::proxy::Proxy as _;

/// Starts with each module.
const STARTS: usize = 9;

/// `config` has to be one that runs with any of the modules.
pub(crate) fn table(config: &Config, modules: &Modules) {
    let mut rows = vec![("filter that does nothing", &modules.noop), ("durpina", &modules.durpina)];
    rows.extend(modules.baseline.as_ref().map(|module| ("durpina, baseline", module)));
    let mut compiled = vec![Vec::new(); rows.len()];
    for start in 0..STARTS {
        progress("starts of Envoy with each module", start, STARTS);
        for ((_, module), compiled) in rows.iter().zip(&mut compiled) {
            compiled.extend(milliseconds(config, module));
        }
    }
    println!();
    println!("{:48} {:>12} {:>12} {:>9}", "the module", "bytes", "compiled, ms", "lowest");
    for ((name, module), mut compiled) in rows.into_iter().zip(compiled) {
        let bytes = module.metadata().expect("the module's size").len();
        compiled.sort_by(f64::total_cmp);
        let at = |place: usize| compiled.get(place).map_or("-".to_owned(), |time| format!("{time:.0}"));
        println!("{name:48} {bytes:>12} {:>12} {:>9}", at(compiled.len() / 2), at(0));
    }
    println!("compiled: median of {STARTS} starts, by Envoy's log; load on the machine makes it longer");
}

/// None where Envoy logs other lines than those known here.
fn milliseconds(config: &Config, module: &Path) -> Option<f64> {
    let envoy = Setup::new(config.clone()).module(module.to_owned()).wasm_log("debug").start();
    let log = envoy.log();
    let [from, to] = ["Base Wasm created", "Thread-Local Wasm created"].map(|what| {
        let line = log.lines().find(|line| line.contains(what))?;
        let time = Regex::new(r"^\[\S+ (\d\d):(\d\d):(\d\d\.\d+)\]").expect("a valid regex").captures(line)?;
        let [hours, minutes, seconds] = time.extract().1.map(|part| part.parse::<f64>().ok());
        Some((hours? * 60.0 + minutes?) * 60.0 + seconds?)
    });
    // Midnight may come in between.
    Some((to? - from?).rem_euclid(86_400.0) * 1e3)
}
