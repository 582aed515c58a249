//! What a module exports, changed after linking.
//!
//! A host calls whatever callback a module exports, and pays for the call. The SDK exports all callbacks of the ABI. Envoy is
//! better off without some of them, nginx needs them all, so of one linked module two are made. Nothing but the list of exports
//! changes; what nobody reaches any more is for an optimiser to take out.

use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};

/// How the names of entry points begin that stand in for the SDK's.
const OWN: &str = "durpina_on_";
/// How the ABI's callbacks begin.
const ABI: &str = "proxy_on_";

/// What the SDK exports and Envoy need not call: the filter does nothing in them, or does it at a tick.
const SPARED: [&str; 12] = [
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_downstream_connection_close",
    "proxy_on_downstream_data",
    "proxy_on_foreign_function",
    "proxy_on_new_connection",
    "proxy_on_queue_ready",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_upstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_request_metadata",
];

/// The proxy that a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Entry points of the filter's own stand in for the SDK's, and what Envoy need not call is not exported.
    Envoy,
    /// All of the SDK's, and nothing else.
    Nginx,
}

impl For {
    /// Under which name an export is to be found, if it stays.
    fn name(self, name: &str, all: &[String]) -> Option<String> {
        match (self, name.strip_prefix(OWN)) {
            (Self::Nginx, Some(_)) => None,
            (Self::Nginx, None) => Some(name.to_owned()),
            (Self::Envoy, Some(callback)) => Some(format!("{ABI}{callback}")),
            (Self::Envoy, None) => {
                let own = name.strip_prefix(ABI).map(|callback| format!("{OWN}{callback}"));
                let is_replaced = own.is_some_and(|own| all.contains(&own));
                (!is_replaced && !SPARED.contains(&name)).then(|| name.to_owned())
            }
        }
    }
}

/// The module for that proxy.
///
/// # Errors
///
/// What is wrong with the module, in a sentence.
pub fn module(linked: &[u8], host: For) -> Result<Vec<u8>, String> {
    let wrong = |error: wasmparser::BinaryReaderError| format!("this is no WebAssembly module: {error}");
    let mut made = Module::new();
    let mut own = 0;
    for payload in Parser::new(0).parse_all(linked) {
        let payload = payload.map_err(wrong)?;
        if let Payload::ExportSection(section) = payload {
            let exports = section.into_iter().collect::<Result<Vec<_>, _>>().map_err(wrong)?;
            let names: Vec<String> = exports.iter().map(|export| export.name.to_owned()).collect();
            let mut kept = ExportSection::new();
            for export in exports {
                own += usize::from(export.name.starts_with(OWN));
                let kind = match export.kind {
                    ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
                    ExternalKind::Table => ExportKind::Table,
                    ExternalKind::Memory => ExportKind::Memory,
                    ExternalKind::Global => ExportKind::Global,
                    ExternalKind::Tag => ExportKind::Tag,
                };
                if let Some(name) = host.name(export.name, &names) {
                    kept.export(&name, kind, export.index);
                }
            }
            made.section(&kept);
        } else if let Some((id, range)) = payload.as_section() {
            let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let data = linked.get(position(range.start)..position(range.end));
            let data = data.ok_or("the module ends within a section")?;
            made.section(&RawSection { id, data });
        }
    }
    if own == 0 {
        return Err(format!("the module exports nothing that begins with {OWN}"));
    }
    Ok(made.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The names that a module exports, each with the number of its function.
    fn exports(module: &[u8]) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::ExportSection(section) = payload.unwrap() {
                found.extend(section.into_iter().map(Result::unwrap).map(|it| (it.name.to_owned(), it.index)));
            }
        }
        found
    }

    fn linked() -> Vec<u8> {
        let text = r#"(module (func (export "proxy_on_log")) (func (export "proxy_on_done")) (func (export "proxy_on_configure"))
            (func (export "durpina_on_log")) (func (export "malloc")) (func) (memory (export "memory") 1))"#;
        wat::parse_str(text).unwrap()
    }

    fn named(names: &[(&str, u32)]) -> Vec<(String, u32)> {
        names.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect()
    }

    #[test]
    fn envoy_gets_the_filters_own_entry_points_and_nothing_that_it_need_not_call() {
        let made = module(&linked(), For::Envoy).unwrap();
        assert_eq!(
            exports(&made),
            named(&[("proxy_on_configure", 2), ("proxy_on_log", 3), ("malloc", 4), ("memory", 0)])
        );
    }

    #[test]
    fn nginx_gets_all_that_the_sdk_has() {
        let made = module(&linked(), For::Nginx).unwrap();
        let expected =
            [("proxy_on_log", 0), ("proxy_on_done", 1), ("proxy_on_configure", 2), ("malloc", 4), ("memory", 0)];
        assert_eq!(exports(&made), named(&expected));
    }

    #[test]
    fn what_was_linked_without_entry_points_is_refused() {
        let bare = wat::parse_str(r#"(module (func (export "proxy_on_log")))"#).unwrap();
        assert!(module(&bare, For::Envoy).unwrap_err().contains("durpina_on_"));
        assert!(module(b"\0asm\x01", For::Envoy).is_err());
    }
}
