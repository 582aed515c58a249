//! Host calls for tests: what a proxy would answer is said by the test, and what it was asked is kept.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::abi::{Abi, HttpCall, Map, Result, Status};

/// A proxy that does what it is told.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) headers: RefCell<HashMap<(u32, String), String>>,
    pub(crate) properties: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    pub(crate) data: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    /// Metrics that count; none where the operator rejects them.
    pub(crate) gauge: Cell<Option<u64>>,
    /// The body of a reply to a call, or the words with which a stream was closed.
    pub(crate) call_body: RefCell<Vec<u8>>,
    /// The calls and streams that were opened, in words.
    pub(crate) opened: RefCell<Vec<String>>,
    /// The streams that were closed or cancelled.
    pub(crate) ended: RefCell<Vec<u32>>,
    /// The status with which the next calls are refused.
    pub(crate) refuses: Cell<Option<u32>>,
    pub(crate) random: Cell<Option<u64>>,
    /// Shared data and metrics are nginx's.
    pub(crate) is_nginx: bool,
    /// The metrics of nginx, by their names.
    metrics: RefCell<Vec<(String, u64)>>,
    /// So many of the next reads of shared data are torn by a writer.
    pub(crate) tears: Cell<u32>,
    /// Keys that are one to nginx.
    pub(crate) collides: RefCell<Vec<String>>,
    /// The properties that can be set; each has the status with which setting it ends.
    pub(crate) settable: RefCell<HashMap<Vec<u8>, u32>>,
}

impl Fake {
    /// An nginx.
    pub(crate) fn nginx() -> Self {
        Self { is_nginx: true, ..Self::default() }
    }

    fn define(&self, name: &str) -> u32 {
        let mut metrics = self.metrics.borrow_mut();
        let known = metrics.iter().position(|(known, _)| known == name);
        known.unwrap_or_else(|| {
            metrics.push((name.to_owned(), 0));
            metrics.len() - 1
        }) as u32
    }

    pub(crate) fn set_header(&self, map: Map, name: &str, value: &str) {
        self.headers.borrow_mut().insert((map as u32, name.to_owned()), value.to_owned());
    }

    pub(crate) fn set_number(&self, path: &[u8], number: u64) {
        self.properties.borrow_mut().insert(path.to_vec(), number.to_le_bytes().to_vec());
    }

    pub(crate) fn set_text(&self, path: &[u8], text: &str) {
        self.properties.borrow_mut().insert(path.to_vec(), text.as_bytes().to_vec());
    }

    pub(crate) fn request_header(&self, name: &str) -> Option<String> {
        self.headers.borrow().get(&(Map::Request as u32, name.to_owned())).cloned()
    }

    fn may(&self) -> Result<()> {
        self.refuses.get().map_or(Ok(()), |status| Err(Status(status)))
    }

    fn open(&self, what: String) -> Result<u32> {
        self.may()?;
        let mut opened = self.opened.borrow_mut();
        opened.push(what);
        Ok(opened.len() as u32)
    }
}

impl Abi for Fake {
    fn now(&self) -> Result<u64> {
        Ok(1_700_000_000_000_000_000)
    }

    fn random(&self) -> Result<u64> {
        self.random.get().ok_or(Status(12))
    }

    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>> {
        let found = self.headers.borrow().get(&(map as u32, name.to_owned())).cloned();
        Ok(found.map(String::into_bytes))
    }

    fn set_request_header(&self, name: &str, value: &str) -> Result<()> {
        self.may()?;
        self.set_header(Map::Request, name, value);
        Ok(())
    }

    fn remove_request_header(&self, name: &str) -> Result<()> {
        self.may()?;
        self.headers.borrow_mut().remove(&(Map::Request as u32, name.to_owned()));
        Ok(())
    }

    fn property(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        if !self.is_nginx && path == b"xds" {
            return Err(Status(3));
        }
        Ok(self.properties.borrow().get(path).cloned())
    }

    fn set_property(&self, path: &[u8], value: &str) -> Result<()> {
        match self.settable.borrow().get(path) {
            Some(0) => {
                self.properties.borrow_mut().insert(path.to_vec(), value.as_bytes().to_vec());
                Ok(())
            }
            Some(status) => Err(Status(*status)),
            None => Err(Status::NOT_FOUND),
        }
    }

    fn shared_data(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>> {
        let key = if self.collides.borrow().iter().any(|one| one == key) { "both" } else { key };
        let mut data = self.data.borrow_mut();
        let Some((value, cas)) = data.get_mut(key) else { return Ok(None) };
        let (mut read, number) = (value.clone(), *cas);
        if let Some(left) = self.tears.get().checked_sub(1) {
            self.tears.set(left);
            // Somebody writes the same while it is copied.
            *cas += 1;
            read.iter_mut().skip(8).for_each(|byte| *byte ^= 0x55);
        }
        Ok(Some((read, number)))
    }

    /// As Envoy does it: a number is looked at only where there is a value, and 0 replaces whatever is there. Or as nginx does it:
    /// there, 0 means that there is nothing.
    fn set_shared_data(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        self.may()?;
        let key = if self.collides.borrow().iter().any(|one| one == key) { "both" } else { key };
        let mut data = self.data.borrow_mut();
        let found = data.get(key).map(|(_, cas)| *cas);
        let is_other = match found {
            Some(found) => cas != found && (cas != 0 || self.is_nginx),
            None => self.is_nginx && cas != 0,
        };
        if is_other {
            return Err(Status::CAS_MISMATCH);
        }
        data.insert(key.to_owned(), (value.to_vec(), found.unwrap_or_default() + 1));
        Ok(())
    }

    fn define_gauge(&self, name: &str) -> Result<u32> {
        Ok(if self.is_nginx { self.define(name) } else { 7 })
    }

    fn define_counter(&self, name: &str) -> Result<u32> {
        Ok(self.define(name))
    }

    fn set_metric(&self, id: u32, value: u64) -> Result<()> {
        self.metrics.borrow_mut()[id as usize].1 = value;
        Ok(())
    }

    fn metric(&self, id: u32) -> Result<u64> {
        if self.is_nginx {
            return Ok(self.metrics.borrow()[id as usize].1);
        }
        Ok(self.gauge.get().unwrap_or_default())
    }

    fn increment_metric(&self, id: u32, by: i64) -> Result<()> {
        if self.is_nginx {
            self.metrics.borrow_mut()[id as usize].1 += by as u64;
            return Ok(());
        }
        self.gauge.set(self.gauge.get().map(|value| value.saturating_add_signed(by)));
        Ok(())
    }

    fn call_body(&self, most: usize) -> Result<Vec<u8>> {
        let body = self.call_body.borrow();
        Ok(body.get(..most).unwrap_or(&body).to_vec())
    }

    fn respond(&self, status: u32, _details: &str, _headers: &[(&str, &str)], _body: &[u8]) -> Result<()> {
        self.may()?;
        self.opened.borrow_mut().push(format!("answer {status}"));
        Ok(())
    }

    fn http_call(&self, call: &HttpCall<'_>) -> Result<u32> {
        let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = String::from_utf8_lossy(call.body);
        self.open(format!("{} {} {body:?} within {} ms", call.to, headers.join(" "), call.timeout))
    }

    fn grpc_stream(&self, service: &str, _name: &str, _method: &str, headers: &[(&str, &str)]) -> Result<u32> {
        self.open(format!("stream {service:?} {headers:?}"))
    }

    fn stream_status(&self) -> Result<Vec<u8>> {
        Ok(self.call_body.borrow().clone())
    }

    fn grpc_close(&self, token: u32) -> Result<()> {
        self.ended.borrow_mut().push(token);
        Ok(())
    }

    fn grpc_cancel(&self, token: u32) -> Result<()> {
        self.ended.borrow_mut().push(token);
        Ok(())
    }
}
