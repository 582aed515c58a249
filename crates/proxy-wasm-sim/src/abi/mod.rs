//! The host calls of proxy-wasm 0.2.1, and those of WASI that modules import besides.
//!
//! <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>

mod buffers;
mod calls;
mod contexts;
mod headers;
mod metrics;
mod properties;
mod shared;
mod wasi;

use wasmi::{FuncType, ValType};

use crate::guest::Guest;
use crate::status::{Answer, Status};

/// The arguments of a host call; those that it does not have are 0.
pub(crate) type Args = [u64; 12];

/// A function that modules import.
pub(crate) struct Import {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    /// A letter for each parameter: `i` for 32 bits, `I` for 64.
    params: &'static str,
    result: Returns,
    /// Whether chance may interfere before it: it is something that other workers or the world can see, or that they change.
    pub(crate) yields: bool,
    pub(crate) run: fn(&mut Guest<'_>, &Args) -> Answer,
}

#[derive(Clone, Copy)]
enum Returns {
    Status,
    Errno,
    Nothing,
}

/// `EINVAL` of WASI.
const EINVAL: i32 = 28;

impl Import {
    const fn env(name: &'static str, params: &'static str, run: fn(&mut Guest<'_>, &Args) -> Answer) -> Self {
        Self { module: "env", name, params, result: Returns::Status, yields: false, run }
    }

    const fn yields(self) -> Self {
        Self { yields: true, ..self }
    }

    const fn wasi(name: &'static str, params: &'static str, run: fn(&mut Guest<'_>, &Args) -> Answer) -> Self {
        Self { module: "wasi_snapshot_preview1", name, params, result: Returns::Errno, yields: false, run }
    }

    /// Its type.
    pub(crate) fn signature(&self) -> FuncType {
        let param = |letter| if letter == 'I' { ValType::I64 } else { ValType::I32 };
        let results: &[ValType] = if let Returns::Nothing = self.result { &[] } else { &[ValType::I32] };
        let params: Vec<ValType> = self.params.chars().map(param).collect();
        FuncType::new(params, results.iter().copied())
    }

    /// A status as this function returns it.
    pub(crate) fn number(&self, status: Status) -> i32 {
        match (self.result, status) {
            (Returns::Status, status) => status as i32,
            (_, Status::Ok) => 0,
            _ => EINVAL,
        }
    }
}

/// All functions that a module may import.
pub(crate) fn imports() -> impl Iterator<Item = &'static Import> {
    [
        contexts::IMPORTS,
        headers::IMPORTS,
        buffers::IMPORTS,
        properties::IMPORTS,
        shared::IMPORTS,
        metrics::IMPORTS,
        calls::IMPORTS,
        wasi::IMPORTS,
    ]
    .into_iter()
    .flatten()
}
