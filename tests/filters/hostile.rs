//! A filter whose monitor and balancer do what no other should, each time as `how` says: an option of the monitor, a header of the request.

use durpina::balancer::{Balancer, BalancerKind, Candidates, Entry, Pick};
use durpina::host::{CallKind, Reply};
use durpina::json::Json;
use durpina::monitor::{Check, Finding, Monitor, MonitorKind, Step};
use durpina::settings::Settings;
use durpina::{Filter, Registry};

struct Hostile(String);

impl Monitor for Hostile {
    fn init(settings: &mut Settings) -> Self {
        let how = settings.text("how").unwrap_or_default();
        log::info!("init {how}");
        assert!(how != "init", "a bug in init");
        Self(how)
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        log::info!("step {} {}", self.0, reply.is_some());
        let http = |path: &str, headers: &[(&str, &str)], body: usize| CallKind::Http {
            method: "POST".to_owned(),
            path: path.to_owned(),
            authority: "a".to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: vec![b'x'; body],
        };
        if let Some(reply) = reply {
            let body = check.body(reply)?;
            return match &*self.0 {
                "deep" => Json::parse(body).map(|_| Step::Done(Finding::Good)),
                "echo" => Ok(Step::Done(Finding::Bad(String::from_utf8_lossy(body).into_owned()))),
                _ => Ok(Step::Done(Finding::Good)),
            };
        }
        Ok(Step::Ask(match &*self.0 {
            "no path" => http("", &[], 0),
            "no slash" => http("x", &[], 0),
            "line break" => http("/x HTTP/1.1\r\nx-forged: 1\r\n\r\nGET /forged", &[], 0),
            "headers" => http("/", &[("", ""), (":path", "/y"), ("a b", "c\r\nx-forged: 1"), ("content-length", "7")], 0),
            "large" => http("/", &[], 4 << 20),
            "gone" => {
                let upstream = check.get_upstream().map_err(|error| error.to_string())?;
                let removed = upstream.ok_or("no upstream")?.remove_monitor(&check.spec().id);
                removed.map_err(|error| error.to_string())?;
                http("/gone", &[], 0)
            }
            "shared" => {
                let grown = check.update_shared(|value| value.resize(65_536, b'x'));
                grown.map_err(|error| error.to_string())?;
                http("/", &[], 0)
            }
            _ => http("/", &[], 0),
        }))
    }
}

struct Wild(u32);

impl Balancer for Wild {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.0 = entries.len() as u32;
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let how = request.header("x-how");
        assert!(how != b"panic", "a bug in pick");
        match &*how {
            b"nobody" => {}
            b"unknown" => [self.0, u32::MAX, 7_000].into_iter().for_each(|at| candidates.push(at)),
            b"same" => (0..3).for_each(|_| candidates.push(1)),
            // Whether they are open or not.
            _ => (0..self.0).for_each(|at| candidates.push(at)),
        }
    }
}

proxy_wasm::main! {{
    let wild = BalancerKind::new("wild", |_, _| Box::new(Wild(0)));
    let registry = Registry::default().with_monitor(MonitorKind::new::<Hostile>("hostile")).with_balancer(wild);
    durpina_proxy_wasm::start::<Filter>(registry);
}}
