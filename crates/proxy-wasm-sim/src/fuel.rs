//! What a module's callbacks cost, in instructions.

use std::collections::BTreeMap;

/// What the calls of one callback cost together.
///
/// Fuel is what the interpreter counts: about one for each instruction of the module, the same on every machine. What the host does
/// in between is not in it.
///
/// ```
/// use proxy_wasm_sim::{Module, Plugin, Process, Request};
///
/// # let module = Module::load(&wat::parse_str(proxy_wasm_sim::EXAMPLE)?)?;
/// let mut envoy = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
/// envoy.start(&[Plugin::filter("filter", "")])?;
/// for _ in 0..10 {
///     envoy.request(Request::get("/"))?;
/// }
/// let cost = envoy.fuel()["proxy_on_request_headers"];
/// assert_eq!((cost.calls, cost.most), (10, cost.mean()), "each request costs the same");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fuel {
    /// How often it was called.
    pub calls: u64,
    /// All calls together.
    pub total: u64,
    /// The dearest call.
    pub most: u64,
}

impl Fuel {
    /// The mean of a call; 0 where there was none.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.total.checked_div(self.calls).unwrap_or_default()
    }
}

/// By callback.
#[derive(Debug, Default)]
pub(crate) struct FuelTable(pub(crate) BTreeMap<&'static str, Fuel>);

impl FuelTable {
    pub(crate) fn add(&mut self, callback: &'static str, used: u64) {
        let fuel = self.0.entry(callback).or_default();
        fuel.calls += 1;
        fuel.total += used;
        fuel.most = fuel.most.max(used);
    }
}
