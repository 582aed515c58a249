//! A monitor that drains servers by the version that they report.
//!
//! Each server answers a path with its version, `1.4.2` as plain text. Servers below `at_least` get no new requests, and all
//! others do. With `canary`, a label, a server that has it is left alone: it runs whatever it runs.
// What the macro makes is neither documented nor free of unsafe attributes.
#![allow(missing_docs, unsafe_code, unreachable_pub)]

use durpina::host::Reply;
use durpina::model::report::{AgentAdmin, Report};
use durpina::monitor::{Check, Finding, Grammar, Monitor, MonitorKind, Step};
use durpina::settings::Settings;
use durpina::Registry;

type Version = [u32; 3];

struct VersionDrain {
    at_least: Version,
    canary: Option<String>,
}

/// `1.4.2`, `1.4` or `1`, with or without a `v`; what is missing is 0.
fn version(text: &str) -> Option<Version> {
    let text = text.trim();
    let mut version = Version::default();
    let mut slots = version.iter_mut();
    for number in text.strip_prefix('v').unwrap_or(text).split('.') {
        *slots.next()? = number.parse().ok()?;
    }
    Some(version)
}

impl Monitor for VersionDrain {
    fn init(settings: &mut Settings) -> Self {
        let text = settings.text("at_least");
        let at_least = text.as_deref().and_then(version);
        if at_least.is_none() {
            let found = text.map_or("nothing".to_owned(), |text| format!("{text:?}"));
            settings.error("at_least", format!("expected a version such as \"1.4.2\", found {found}"));
        }
        Self { at_least: at_least.unwrap_or_default(), canary: settings.text("canary") }
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        if self.canary.as_ref().is_some_and(|label| !check.label(label).is_empty()) {
            return Ok(Step::Done(Finding::Good));
        }
        let Some(reply) = reply else { return Ok(Step::Ask(check.request(&check.spec().url))) };
        let body = match check.body(reply) {
            Ok(body) => String::from_utf8_lossy(body),
            Err(why) => return Ok(Step::Done(Finding::Bad(why))),
        };
        // No verdict: what was said of the server before stays.
        let Some(reported) = version(&body) else {
            return Ok(Step::Done(Finding::Silent("the answer is no version".to_owned())));
        };
        let is_old = reported < self.at_least;
        let told = check.local::<Option<Version>>();
        if told.replace(reported) != Some(reported) {
            check.log(log::Level::Info, format_args!("runs {}{}", body.trim(), if is_old { ", too old" } else { "" }));
        }
        Ok(Step::Done(Finding::Reported(Report {
            admin: Some(if is_old { AgentAdmin::Drain } else { AgentAdmin::Ready }),
            description: Some(format!("version {}", body.trim())),
            ..Report::default()
        })))
    }
}

/// What durpina brings, and this monitor, which has the options `url`, `ok_codes` and `header_*` besides its own.
pub fn registry() -> Registry {
    let kind = MonitorKind::new::<VersionDrain>("version-drain");
    Registry::default().with_monitor(kind.grammar(Grammar { http: true, ..Grammar::default() }))
}

#[cfg(target_arch = "wasm32")]
proxy_wasm::main! {{
    durpina_proxy_wasm::start::<durpina::Filter>(registry());
}}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use durpina::Filter;
    use durpina_sim::{Sent, Sim, Worker};
    use std::time::Duration;

    const OLD: &str = "10.0.0.1:80";
    const NEW: &str = "10.0.0.2:80";
    const CANARY: &str = "10.0.0.3:80";

    fn start(sim: &Sim, options: &str) -> Result<Worker<Filter>, String> {
        let config = format!(
            r#"{{"upstreams": {{"u": {{"servers": ["{OLD}", "{NEW}", {{"name": "{CANARY}", "labels": {{"canary": "yes"}}}}],
                "monitors": [{{"name": "version-drain", "url": "/version", "interval": "1s", "schedule": "all", {options}}}]}}}},
                "upstream": "u"}}"#
        );
        Worker::with(&registry(), sim, "test", &config)
            .map_err(|errors: durpina::config::ConfigErrors| errors.to_string())
    }

    fn pass(sim: &Sim, worker: &mut Worker<Filter>) {
        for _ in 0..250 {
            sim.advance(Duration::from_millis(10));
            worker.tick();
            worker.deliver();
        }
    }

    fn served(worker: &mut Worker<Filter>) -> Vec<String> {
        let mut by: Vec<String> = (0..9).map(|_| worker.send(Sent::get("/")).by().to_owned()).collect();
        by.sort();
        by.dedup();
        by
    }

    #[test]
    fn old_servers_are_drained_until_they_are_updated() {
        let sim = Sim::new();
        for (server, version) in [(OLD, "v1.3.9\n"), (NEW, "1.4"), (CANARY, "0.1")] {
            sim.says(server, version);
        }
        let mut worker = start(&sim, r#""at_least": "1.4.0", "canary": "canary""#).unwrap();
        assert_eq!(served(&mut worker), [OLD, NEW, CANARY], "nobody is drained unheard");
        pass(&sim, &mut worker);
        assert_eq!(served(&mut worker), [NEW, CANARY]);
        let line = format!("upstream=u peer={OLD} monitor=\"version-drain\": runs v1.3.9, too old");
        assert_eq!(sim.logged(&line).len(), 1, "{:?}", sim.logged("runs"));
        sim.says(OLD, "1.10.0");
        sim.says(NEW, "not a version");
        pass(&sim, &mut worker);
        assert_eq!(served(&mut worker), [OLD, NEW, CANARY], "what is no version is no verdict");
    }

    #[test]
    fn a_version_is_a_must() {
        let place = "upstreams.u.monitors[0].at_least: expected a version such as \"1.4.2\", found";
        assert_eq!(start(&Sim::new(), r#""id": "v""#).err().unwrap(), format!("{place} nothing"));
        for wrong in ["1.2.3.4", "one", ""] {
            let found = start(&Sim::new(), &format!(r#""at_least": "{wrong}""#)).err().unwrap();
            assert_eq!(found, format!("{place} {wrong:?}"));
        }
    }
}
