//! The requests of a VM that come through the [`entries`](crate::entries) of the module for Envoy.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use durpina_host::Guest;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

use crate::callbacks::{Stream, Vm};
use crate::entries::Streams;

/// By the number of a context.
pub(crate) type ById<T> = HashMap<u32, T, BuildHasherDefault<Spread>>;

/// The requests of a VM, where they do not come through the SDK.
pub(crate) struct Requests<G: Guest>(pub(crate) Rc<Vm<G>>);

impl<G: Guest> Requests<G> {
    fn with<T>(&self, id: u32, call: impl FnOnce(&mut Stream<G>) -> T) -> Option<T> {
        self.0.streams.try_borrow_mut().ok()?.get_mut(&id).map(call)
    }
}

impl<G: Guest> Streams for Requests<G> {
    fn create(&self, id: u32, root: u32) {
        let (Ok(roots), Ok(mut streams)) = (self.0.roots.try_borrow(), self.0.streams.try_borrow_mut()) else { return };
        if let Some((_, filter)) = roots.iter().find(|(known, _)| *known == root) {
            streams.insert(id, Stream::new(&self.0, filter));
        }
    }

    fn request_headers(&self, id: u32, end: bool) -> Action {
        // One that nobody knows goes nowhere: nobody has taken out what its client wrote.
        self.with(id, |stream| stream.on_http_request_headers(0, end)).unwrap_or(Action::Pause)
    }

    fn request_body(&self, id: u32, size: usize, end: bool) -> Action {
        self.with(id, |stream| stream.on_http_request_body(size, end)).unwrap_or(Action::Pause)
    }

    fn request_trailers(&self, id: u32) -> Action {
        self.with(id, |stream| stream.on_http_request_trailers(0)).unwrap_or(Action::Pause)
    }

    fn response_headers(&self, id: u32) {
        self.with(id, |stream| {
            stream.on_http_response_headers(0, false);
            stream.goes_on = true;
        });
    }

    fn log(&self, id: u32) -> bool {
        let stream = self.0.streams.try_borrow_mut().ok().and_then(|mut streams| streams.remove(&id));
        stream.map(|mut stream| stream.on_log()).is_some()
    }

    fn tick(&self, is_there: &dyn Fn(u32) -> bool) {
        let Ok(mut streams) = self.0.streams.try_borrow_mut() else { return };
        streams.retain(|id, stream| {
            if !stream.goes_on {
                return true;
            }
            let is_there = is_there(*id);
            if is_there {
                stream.goes_on = false;
                stream.streaming();
            }
            is_there
        });
    }
}

/// Spreads numbers that are given out one after the other. Nobody else chooses them.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
