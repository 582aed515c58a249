//! `durpina check`: a filter JSON, read as the filter would, without a proxy, alone or in an Envoy configuration.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use durpina::balancer::BalancerKind;
use durpina::config::Config;
use durpina::host::Capabilities;
use durpina::monitor::MonitorKind;
use durpina::Registry;

use crate::arguments::OwnNames;
use crate::{envoy, text};

/// The content of a file; `-` is standard input.
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok(text);
    }
    std::fs::read(file)
}

/// What a filter has that knows these names besides durpina's.
pub(crate) fn registry(own: OwnNames) -> Registry {
    // Names are those of a program, and last as long as it does.
    let registry = Registry::default();
    let registry = own
        .monitors
        .into_iter()
        .fold(registry, |registry, name| registry.with_monitor(MonitorKind::unchecked(name.leak())));
    own.balancers
        .into_iter()
        .fold(registry, |registry, name| registry.with_balancer(BalancerKind::unchecked(name.leak())))
}

/// What there is to say about files, and whether they are good: those of an Envoy together, filter JSONs one by one.
pub(crate) fn check(files: &[(&PathBuf, Vec<u8>)], own: OwnNames) -> (String, bool) {
    let registry = registry(own);
    let named = files
        .iter()
        .map(|(file, text)| Some((text::one_line(&file.display().to_string()), String::from_utf8(text.clone()).ok()?)));
    let of_envoy = named.collect::<Option<Vec<_>>>().and_then(|texts| envoy::check(&texts, &registry));
    match of_envoy {
        Some(Ok((report, good))) => (text::lines(&report), good),
        Some(Err(unreadable)) => (text::lines(&unreadable), false),
        None => {
            let each = files.iter().map(|(file, text)| check_json(file, text, &registry));
            each.fold((String::new(), true), |(all, good), (report, one)| (all + &report, good && one))
        }
    }
}

/// What there is to say about a filter JSON, and whether it is good.
fn check_json(file: &Path, json: &[u8], registry: &Registry) -> (String, bool) {
    let file = text::one_line(&file.display().to_string());
    match Config::parse(json, Capabilities::default(), registry) {
        Ok(config) => {
            let servers: usize = config.upstreams.iter().map(|(_, upstream)| upstream.servers.len()).sum();
            let warnings = config.warnings.iter().map(|warning| format!("warning: {warning}\n"));
            let mut report = text::lines(&warnings.collect::<String>());
            let (upstreams, routes) = (config.upstreams.len(), config.route_count());
            report += &format!("{file}: good. {upstreams} upstreams with {servers} servers, {routes} routes\n");
            (report, true)
        }
        Err(problems) => {
            let mut report = text::lines(&problems.to_string());
            report += &format!("{file}: {} errors\n", problems.count());
            (report, false)
        }
    }
}
