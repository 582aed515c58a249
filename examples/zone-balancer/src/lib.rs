//! A balancer that prefers servers of the client's zone, which a header names, and spills over to the others.
//!
//! Servers have a label with their zone. A request goes to those of its own zone in turn, by weight; when these are out of use or have as
//! many requests as they may (`max_conns`), and for retries beyond them, to all the others in turn.
// What the macro makes is neither documented nor free of unsafe attributes.
#![allow(missing_docs, unsafe_code, unreachable_pub)]

use durpina::balancer::{Balancer, BalancerKind, Candidates, Entry, Pick, RoundRobin};
use durpina::model::template::Template;
use durpina::settings::Settings;
use durpina::Registry;

struct ZoneBalancer {
    /// What says the client's zone.
    from: Template,
    /// The label that says a server's.
    label: String,
    zones: Vec<Zone>,
    all: RoundRobin,
}

struct Zone {
    name: String,
    /// Where its servers stand among all.
    positions: Vec<u32>,
    turns: RoundRobin,
}

impl ZoneBalancer {
    fn new(settings: &mut Settings) -> Self {
        let from = settings.template_or("from", "$http_x_zone");
        let label = settings.text("label").unwrap_or_else(|| "zone".to_owned());
        Self { from, label, zones: Vec::new(), all: RoundRobin::weighted() }
    }
}

impl Balancer for ZoneBalancer {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.all.set_entries(entries);
        self.zones.clear();
        for (position, entry) in (0..).zip(entries) {
            let name = entry.label(&self.label);
            match self.zones.iter_mut().find(|zone| zone.name == name) {
                Some(zone) => zone.positions.push(position),
                None => self.zones.push(Zone {
                    name: name.to_owned(),
                    positions: vec![position],
                    turns: RoundRobin::weighted(),
                }),
            }
        }
        for zone in &mut self.zones {
            let of_zone = zone.positions.iter().filter_map(|position| entries.get(*position as usize));
            zone.turns.set_entries(&of_zone.cloned().collect::<Vec<_>>());
        }
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let wanted = request.render(&self.from);
        if let Some(zone) = self.zones.iter_mut().find(|zone| zone.name.as_bytes() == wanted) {
            let mut near = Candidates::with_room_for(candidates.room());
            zone.turns.pick(request, &mut near);
            let positions = near.as_slice().iter().filter_map(|at| zone.positions.get(*at as usize));
            positions.for_each(|position| candidates.push(*position));
        }
        if !candidates.is_full() {
            self.all.pick(request, candidates);
        }
    }
}

/// What durpina brings, and this balancer.
pub fn registry() -> Registry {
    Registry::default().with_balancer(BalancerKind::new("zone", |_, settings| Box::new(ZoneBalancer::new(settings))))
}

#[cfg(target_arch = "wasm32")]
proxy_wasm::main! {{
    durpina_proxy_wasm::start::<durpina::Filter>(registry());
}}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use durpina::host::Failure;
    use durpina::Filter;
    use durpina_sim::{Behaviour, Sent, Sim, Worker};

    const EU: [&str; 2] = ["10.0.0.1:80", "10.0.0.2:80"];
    const US: &str = "10.0.1.1:80";

    fn start(sim: &Sim, balancer: &str) -> Result<Worker<Filter>, String> {
        let config = format!(
            r#"{{"upstreams": {{"u": {{"balancer": {balancer}, "servers": [
                {{"name": "{}", "labels": {{"zone": "eu"}}}}, {{"name": "{}", "labels": {{"zone": "eu"}}}},
                {{"name": "{US}", "labels": {{"zone": "us"}}}}]}}}}, "upstream": "u"}}"#,
            EU[0], EU[1]
        );
        Worker::with(&registry(), sim, "test", &config)
            .map_err(|errors: durpina::config::ConfigErrors| errors.to_string())
    }

    fn served(worker: &mut Worker<Filter>, zone: &str) -> Vec<String> {
        let mut by: Vec<String> =
            (0..12).map(|_| worker.send(Sent::get("/").header("x-zone", zone)).by().to_owned()).collect();
        by.sort();
        by.dedup();
        by
    }

    #[test]
    fn a_zone_s_requests_stay_there_as_long_as_they_can() {
        let sim = Sim::new();
        let mut worker = start(&sim, "\"zone\"").unwrap();
        assert_eq!(served(&mut worker, "eu"), EU);
        assert_eq!(served(&mut worker, "us"), [US]);
        assert_eq!(served(&mut worker, "asia"), [EU[0], EU[1], US], "who has no servers of its own has all");
        sim.server(US, Behaviour::Fails(Failure::Connect));
        assert_eq!(served(&mut worker, "us"), EU, "and the first retry was one of them");
    }

    #[test]
    fn where_the_zone_comes_from_is_an_option() {
        let mut worker = start(&Sim::new(), r#"{"name": "zone", "from": "$arg_zone"}"#).unwrap();
        assert_eq!(worker.send(Sent::get("/?zone=us")).by(), US);
        let refused = start(&Sim::new(), r#"{"name": "zone", "form": "$arg_zone"}"#).err().unwrap();
        assert!(refused.starts_with("upstreams.u.balancer.form: unknown key, expected one of"), "{refused}");
    }
}
