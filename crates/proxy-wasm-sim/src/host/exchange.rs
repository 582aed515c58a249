//! A request under way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::pairs::{self, Pairs};
use crate::request::{Attempt, End, Request};
use crate::vm::VmId;
use crate::wiring::Route;
use crate::world::Course;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its request callbacks.
    Request,
    /// On its way to peers.
    Upstream,
    /// Its response callbacks.
    Response,
    /// Its ending callbacks.
    Ending,
    /// Over.
    Over,
}

/// A context of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamContext {
    pub(crate) context: u32,
    pub(crate) root: u32,
    /// Whether the module was told of it.
    pub(crate) is_created: bool,
}

/// A request under way, or over.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    /// The place of no worker before it arrived at one.
    pub(crate) worker: usize,
    pub(crate) vm: Option<VmId>,
    pub(crate) phase: Phase,
    /// One for each filter, in their order.
    pub(crate) contexts: Vec<StreamContext>,
    /// Contexts of earlier starts of the same request, where failed requests start again.
    pub(crate) earlier: Vec<StreamContext>,
    /// The filter whose callback is next, or that pauses.
    pub(crate) position: usize,
    pub(crate) is_paused: bool,
    /// Whether the body came to the filter that pauses.
    pub(crate) has_body_passed: bool,
    pub(crate) began: Duration,
    /// Header maps by their number in the ABI, 0 to 3.
    pub(crate) maps: [Pairs; 4],
    /// Which of them can be read now.
    pub(crate) open: [bool; 4],
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    /// Properties and variables that the module wrote, by their path with dots.
    pub(crate) written: BTreeMap<String, Vec<u8>>,
    pub(crate) route: Option<Route>,
    pub(crate) deadline: Duration,
    pub(crate) attempts: Vec<Attempt>,
    /// How often peers were tried as the host counts it.
    pub(crate) attempt_count: u64,
    pub(crate) course: Option<Course>,
    pub(crate) flags: u64,
    pub(crate) details: String,
    pub(crate) by_module: bool,
    /// What the module asked the host to do with this request, for when its callback returns.
    pub(crate) asked: Option<Asked>,
    /// How often the request started again.
    pub(crate) restarts: u32,
    /// What comes once the headers of the answer have passed.
    pub(crate) end: Option<End>,
    pub(crate) ended: Duration,
}

/// What a module asked of its request.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// An answer.
    Answer { status: u16, headers: Pairs, body: Vec<u8>, details: String },
    /// To go on.
    Continue,
    /// To break it off.
    Close,
}

impl Exchange {
    pub(crate) fn new(request: Request, worker: usize, began: Duration) -> Self {
        let mut headers: Pairs =
            [(":method", &request.method), (":path", &request.path), (":authority", &request.authority)]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.clone().into_bytes()))
                .collect();
        headers.push((":scheme".to_owned(), b"http".to_vec()));
        headers.extend(pairs::of(&request.headers));
        let says_length =
            ["content-length", "transfer-encoding"].iter().any(|name| pairs::get(&headers, name).is_some());
        if !request.body.is_empty() && !says_length {
            headers.push(("content-length".to_owned(), request.body.len().to_string().into_bytes()));
        }
        Self {
            request_body: request.body.clone(),
            request,
            worker,
            vm: None,
            phase: Phase::Request,
            contexts: Vec::new(),
            earlier: Vec::new(),
            position: 0,
            is_paused: false,
            has_body_passed: false,
            began,
            maps: [headers, Pairs::new(), Pairs::new(), Pairs::new()],
            open: [false; 4],
            response_body: Vec::new(),
            written: BTreeMap::new(),
            route: None,
            deadline: Duration::MAX,
            attempts: Vec::new(),
            attempt_count: 0,
            course: None,
            flags: 0,
            details: String::new(),
            by_module: false,
            asked: None,
            restarts: 0,
            end: None,
            ended: Duration::ZERO,
        }
    }

    pub(crate) fn has_body(&self) -> bool {
        !self.request_body.is_empty()
    }

    pub(crate) fn request_headers(&self) -> &Pairs {
        let [headers, ..] = &self.maps;
        headers
    }

    pub(crate) fn response_headers(&self) -> &Pairs {
        let [_, _, headers, _] = &self.maps;
        headers
    }

    /// The status of the answer; `None` before there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        let status = pairs::get(self.response_headers(), ":status")?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }

    /// Takes an answer, in place of what was there.
    pub(crate) fn answer(&mut self, status: u16, headers: Pairs, body: Vec<u8>) {
        let mut all = vec![(":status".to_owned(), status.to_string().into_bytes())];
        all.extend(headers.into_iter().filter(|(name, _)| name != ":status"));
        let [_, _, response, trailers] = &mut self.maps;
        *response = all;
        trailers.clear();
        self.response_body = body;
    }
}
