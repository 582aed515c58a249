//! What a process is configured with, and how it can fail to be.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::request::Outcome;

type Reports = Rc<dyn Fn(&Outcome) -> bool>;

/// A use of the module: a filter, or an access log, with its configuration.
///
/// ```
/// use proxy_wasm_sim::{Module, Plugin, Process, Request};
///
/// # let module = Module::load(&wat::parse_str(proxy_wasm_sim::EXAMPLE)?)?;
/// // An access log for requests that did not end well, in the same VMs as the filter.
/// let log = Plugin::access_log("log", "", |outcome| outcome.status.is_none_or(|status| status >= 500));
/// let mut envoy = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
/// envoy.start(&[Plugin::filter("filter", ""), log])?;
/// envoy.request(Request::get("/"))?;
/// assert_eq!(envoy.fuel()["proxy_on_log"].calls, 1, "the filter's own");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its `root_id`.
    pub root_id: String,
    /// Its `vm_id`.
    pub vm_id: String,
    /// What `proxy_on_configure` reads.
    pub configuration: Vec<u8>,
    /// What `proxy_on_vm_start` reads.
    pub vm_configuration: Vec<u8>,
    /// For an access log: the requests that it is called for. A filter has none.
    pub(crate) reports: Option<Reports>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("root_id", &self.root_id).finish_non_exhaustive()
    }
}

impl Plugin {
    /// A filter of this name, `root_id` and configuration.
    #[must_use]
    pub fn filter(name: &str, configuration: &str) -> Self {
        Self {
            name: name.to_owned(),
            root_id: name.to_owned(),
            vm_id: "vm".to_owned(),
            configuration: configuration.as_bytes().to_vec(),
            vm_configuration: Vec::new(),
            reports: None,
        }
    }

    /// An access log that is called for these requests, right after the filters' own `proxy_on_log`.
    pub fn access_log(name: &str, configuration: &str, reports: impl Fn(&Outcome) -> bool + 'static) -> Self {
        Self { reports: Some(Rc::new(reports)), ..Self::filter(name, configuration) }
    }
}

/// The simulated host came to an end that a real one would have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// When, in virtual time.
    pub at: Duration,
    /// The rule of the host, as a sentence.
    pub rule: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {:.3} s)", self.rule, self.at.as_secs_f64())
    }
}

impl std::error::Error for Crash {}

/// A configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The module refused it, or trapped: what it logged at error level, or the trap.
    ByModule(String),
    /// The host ended over it.
    Crashed(Crash),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByModule(why) => write!(f, "the configuration was refused: {why}"),
            Self::Crashed(crash) => crash.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}
