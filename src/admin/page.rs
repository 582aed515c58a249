//! The status page.
//!
//! `build.rs` compresses it, and it is sent as it is held: that takes 18 KB off every worker's copy of the filter, while code to
//! decompress it here for whoever wants it plain would bring 13 KB back (miniz_oxide). Browsers all take gzip; `curl` does
//! with `--compressed`.

use super::refusal::Refusal;
use super::request::ApiRequest;
use crate::host::Response;

/// `page.html`, compressed.
const PAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.html.gz"));
/// What the page may do: the value of Content-Security-Policy.
const POLICY: &str = include_str!(concat!(env!("OUT_DIR"), "/page_policy.txt"));

/// Answers with the page.
pub(super) fn get(request: &ApiRequest<'_>) -> Result<Response, Refusal> {
    // Who names no coding takes any (RFC 9110, section 12.5.3).
    if request.host.header("accept-encoding").is_some_and(|accepted| !takes_gzip(&accepted)) {
        return Err(Refusal::new(406, "the status page is there as gzip only"));
    }
    Ok(Response {
        status: 200,
        headers: vec![
            ("content-type", "text/html; charset=utf-8".to_owned()),
            ("content-encoding", "gzip".to_owned()),
            ("vary", "accept-encoding".to_owned()),
            ("content-security-policy", POLICY.to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
        ],
        body: PAGE.to_vec(),
    })
}

/// Whether a client with this `Accept-Encoding` takes gzip. Read by hand: of all that the header can say one word is asked for.
fn takes_gzip(accepted: &[u8]) -> bool {
    let takes = |coding: &[u8]| {
        let mut items = accepted.split(|byte| *byte == b',').map(|item| item.split(|byte| *byte == b';'));
        let mut item = items.find(|item| {
            let name = item.clone().next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(coding)
        })?;
        // A weight of 0, with any decimals, means no.
        let weight = item.nth(1).unwrap_or_default().trim_ascii();
        Some(weight.is_empty() || weight.iter().any(|byte| matches!(byte, b'1'..=b'9')))
    };
    takes(b"gzip").or_else(|| takes(b"x-gzip")).or_else(|| takes(b"*")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::testing::test;

    #[test]
    fn what_is_held_is_the_page() {
        let mut page = String::new();
        flate2::read::GzDecoder::new(PAGE).read_to_string(&mut page).unwrap();
        assert!(page == include_str!("page.html"));
    }

    #[test]
    fn gzip_is_taken_by_who_says_so() {
        for (accepted, expected) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.8, *;q=0.1", true),
            ("deflate, x-gzip", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip ; q=0.001", true),
            ("", false),
            ("identity", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("gzipped", false),
        ] {
            assert_eq!(takes_gzip(accepted.as_bytes()), expected, "{accepted}");
        }
    }
}
