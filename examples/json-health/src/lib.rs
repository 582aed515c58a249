//! A monitor that asks a JSON health endpoint and sets the weight from its answer.
//!
//! The endpoint answers `{"status": "up", "load": 0.25}`: a server that is up gets `1 - load` of its weight, but never less than
//! `floor`. Whatever else `status` says is a failed check.
// What the macro makes is neither documented nor free of unsafe attributes.
#![allow(missing_docs, unsafe_code, unreachable_pub)]

use durpina::host::Reply;
use durpina::json::Json;
use durpina::model::report::{AgentHealth, Report, Weight};
use durpina::monitor::{Check, Finding, Grammar, Monitor, MonitorKind, Step};
use durpina::settings::Settings;
use durpina::Registry;

struct JsonHealth {
    /// Where the load stands in the answer.
    field: String,
    /// The least weight, in hundredths of the declared one.
    floor: u16,
}

impl Monitor for JsonHealth {
    fn init(settings: &mut Settings) -> Self {
        let field = settings.text("field").unwrap_or_else(|| "load".to_owned());
        if field.is_empty() {
            settings.error("field", "expected the name of a field, found \"\"");
        }
        Self { field, floor: settings.number("floor", 1.0..=100.0).map_or(10, |floor| floor as u16) }
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        let Some(reply) = reply else { return Ok(Step::Ask(check.request(&check.spec().url))) };
        let finding = check.body(reply).and_then(|body| self.judge(body));
        Ok(Step::Done(finding.unwrap_or_else(Finding::Bad)))
    }
}

impl JsonHealth {
    fn judge(&self, body: &[u8]) -> Result<Finding, String> {
        let answer = Json::parse(body)?;
        let status = answer.get("status").and_then(Json::as_str).ok_or("no status in the answer")?;
        if status != "up" {
            return Err(format!("the server says {status}"));
        }
        let load =
            answer.get(&self.field).and_then(Json::as_f64).ok_or(format!("no number {} in the answer", self.field))?;
        let percent = ((1.0 - load.clamp(0.0, 1.0)) * 100.0).round() as u16;
        Ok(Finding::Reported(Report {
            health: Some(AgentHealth::Up),
            weight: Some(Weight::Percent(percent.max(self.floor))),
            description: Some(format!("load {load}")),
            ..Report::default()
        }))
    }
}

/// What durpina brings, and this monitor, which has the options `url`, `ok_codes` and `header_*` besides its own.
pub fn registry() -> Registry {
    let kind = MonitorKind::new::<JsonHealth>("json-health");
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
    use durpina::handle::upstream::Upstream;
    use durpina::store::Store;
    use durpina::Filter;
    use durpina_sim::{Sim, Worker};
    use std::time::Duration;

    const SERVER: &str = "10.0.0.1:80";

    fn start(sim: &Sim, monitor: &str) -> Result<Worker<Filter>, String> {
        let config = format!(
            r#"{{"upstreams": {{"u": {{"servers": ["{SERVER} weight=50"], "monitors": [{monitor}]}}}}, "upstream": "u"}}"#
        );
        Worker::with(&registry(), sim, "test", &config)
            .map_err(|errors: durpina::config::ConfigErrors| errors.to_string())
    }

    /// The peer's weight, and whether it is down, after checks that got this answer.
    fn after(answer: &str) -> (u16, bool) {
        let sim = Sim::new();
        sim.says(SERVER, answer);
        let monitor = r#"{"name": "json-health", "url": "/health", "interval": "1s", "floor": 20}"#;
        let mut worker = start(&sim, monitor).unwrap();
        for _ in 0..400 {
            sim.advance(Duration::from_millis(10));
            worker.tick();
            worker.deliver();
        }
        let upstream = Upstream::get(Store::new(&worker.host), &registry(), "u").unwrap().unwrap();
        let peer = upstream.get_peer(SERVER).unwrap();
        (peer.get_weight(), peer.is_down(durpina::handle::peer::DownKind::Permanent))
    }

    #[test]
    fn the_weight_follows_the_load() {
        assert_eq!(after(r#"{"status": "up", "load": 0.25}"#), (38, false), "75 % of 50, rounded up");
        assert_eq!(after(r#"{"status": "up", "load": 0.99}"#), (10, false), "never less than the floor");
        assert_eq!(after(r#"{"status": "up", "load": -3}"#), (50, false));
        for answer in [r#"{"status": "sick", "load": 0}"#, r#"{"status": "up"}"#, "oops", "{}"] {
            assert_eq!(after(answer), (50, true), "{answer}");
        }
    }

    #[test]
    fn mistakes_in_its_options_are_told_with_their_places() {
        let refused = |options: &str| start(&Sim::new(), &format!(r#"{{"name": "json-health", {options}}}"#)).err();
        let place = "upstreams.u.monitors[0]";
        let expected = format!("{place}.floor: expected a number from 1 to 100, found 0");
        assert_eq!(refused(r#""floor": 0"#), Some(expected));
        assert_eq!(refused(r#""field": """#), Some(format!("{place}.field: expected the name of a field, found \"\"")));
        assert!(refused(r#""feild": "x""#).unwrap().starts_with(&format!("{place}.feild: unknown key")));
        assert_eq!(refused(r#""field": "x", "floor": 5, "url": "/h""#), None);
    }
}
