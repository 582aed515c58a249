//! A filter of one's own, all of it: a monitor that is a closure, and a balancer.
//!
//! The monitor asks for `/ready`, and once more for `/warm` where the label `cache` says so. Where `panics` is set it shows what a bug does;
//! so does the balancer for a request with the header `x-panic`.

use durpina::balancer::{Balancer, BalancerKind, Candidates, Entry, Pick};
use durpina::model::template::Variable;
use durpina::monitor::{Finding, MonitorKind, Step};
use durpina::{Filter, Registry};

struct InOrder(Vec<Entry>);

impl Balancer for InOrder {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.0 = entries.to_vec();
    }
    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        assert!(request.variable(&Variable::Header("x-panic".to_owned())).is_empty(), "a bug in the balancer");
        (0..).zip(&self.0).filter(|(_, entry)| entry.is_open()).for_each(|(at, _)| candidates.push(at));
    }
}

proxy_wasm::main! {{
    let ready = MonitorKind::with_check("ready", |check, reply| {
        let Some(reply) = reply else { return Ok(Step::Ask(check.request("/ready"))) };
        assert!(check.option("panics").is_none(), "a bug at {}", check.peer());
        match check.body(reply) {
            Ok(_) if check.answers() == 1 && check.label("cache") == "yes" => Ok(Step::Ask(check.request("/warm"))),
            Ok(_) => Ok(Step::Done(Finding::Good)),
            Err(why) => Ok(Step::Done(Finding::Bad(why))),
        }
    });
    let in_order = BalancerKind::new("in-order", |_, _| Box::new(InOrder(Vec::new())));
    let registry = Registry::default().with_monitor(ready.options(&["panics"])).with_balancer(in_order);
    durpina_proxy_wasm::start::<Filter>(registry);
}}
