//! `durpina check`: a filter JSON, read as the filter would, without a proxy.

use std::io::{self, Read};
use std::path::Path;

use durpina::config::Config;
use durpina::host::Capabilities;
use durpina::Registry;

/// The content of a file; `-` is standard input.
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok(text);
    }
    std::fs::read(file)
}

/// What there is to say about a configuration, and whether it is good.
pub(crate) fn check(file: &Path, text: &[u8]) -> (String, bool) {
    let file = file.display();
    match Config::parse(text, Capabilities::default(), &Registry::default()) {
        Ok(config) => {
            let servers: usize = config.upstreams.iter().map(|(_, upstream)| upstream.servers.len()).sum();
            let mut report: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            let (upstreams, routes) = (config.upstreams.len(), config.routes.len());
            report += &format!("{file}: good. {upstreams} upstreams with {servers} servers, {routes} routes\n");
            (report, true)
        }
        Err(problems) => {
            let mut report = problems.to_string();
            report += &format!("\n{file}: {} errors\n", problems.count());
            (report, false)
        }
    }
}
