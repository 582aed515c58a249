//! What a request's properties are.

use std::time::Duration;

use super::exchange::{Exchange, Phase};
use crate::pairs;
use crate::personality::{Integers, RequestFacts};
use crate::request::End;

/// A property of a request; `None` if there is none.
pub(crate) fn of(
    exchange: &Exchange,
    facts: &RequestFacts,
    path: &[&str],
    now: Duration,
    wall: u64,
) -> Option<Vec<u8>> {
    let number = |number: u64| match facts.integers {
        Integers::Binary => number.to_le_bytes().to_vec(),
        Integers::Text => number.to_string().into_bytes(),
    };
    let request = &exchange.request;
    let text = |text: &str| Some(text.as_bytes().to_vec());
    // What was given with the request, or written by the module, comes first.
    if let Some((_, value)) = request.properties.iter().find(|(found, _)| found == path) {
        return Some(value.clone());
    }
    if let Some(value) = exchange.written.get(&path.join(".")) {
        return Some(value.clone());
    }
    match path {
        ["request", "method"] => text(&request.method),
        ["request", "path"] => text(&request.path),
        ["request", "url_path"] => text(request.path.split('?').next().unwrap_or_default()),
        ["request", "host"] => text(&request.authority),
        ["request", "scheme"] => text("http"),
        ["request", "protocol"] => text("HTTP/1.1"),
        ["request", "headers", name] => pairs::get(exchange.request_headers(), name).map(<[u8]>::to_vec),
        ["request", "duration"] => {
            let took = now.saturating_sub(exchange.began);
            Some(number(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
        }
        ["request", "time"] => Some(number(wall)),
        ["source", "address"] if facts.client_port => text(&request.client),
        ["source", "address"] => {
            text(request.client.rsplit_once(':').map_or(request.client.as_str(), |(host, _)| host))
        }
        ["connection", "id"] => Some(number(request.connection)),
        ["response", "code"] => Some(number(u64::from(exchange.status().unwrap_or_default()))),
        ["response", "flags"] => Some(number(exchange.flags)),
        ["response", "code_details"] if !exchange.details.is_empty() => text(&exchange.details),
        ["response", "headers", name] => pairs::get(exchange.response_headers(), name).map(<[u8]>::to_vec),
        ["upstream", "address"] => exchange.attempts.last().and_then(|attempt| text(&attempt.address)),
        ["upstream", "request_attempt_count"] => Some(number(exchange.attempt_count)),
        ["ngx", name] => variable(exchange, name),
        _ => None,
    }
}

/// A variable of nginx.
fn variable(exchange: &Exchange, name: &str) -> Option<Vec<u8>> {
    let request = &exchange.request;
    let each = |of: &dyn Fn(&crate::request::Attempt) -> String| -> Option<Vec<u8>> {
        let all: Vec<String> = exchange.attempts.iter().map(of).collect();
        // Each visit to a location makes one attempt here.
        (!all.is_empty()).then(|| all.join(" : ").into_bytes())
    };
    let is_over = exchange.phase != Phase::Upstream;
    match name {
        "request_uri" => Some(request.path.clone().into_bytes()),
        "host" => Some(request.authority.split(':').next().unwrap_or_default().as_bytes().to_vec()),
        "request_method" => Some(request.method.clone().into_bytes()),
        "remote_addr" => Some(request.client.rsplit_once(':')?.0.as_bytes().to_vec()),
        "remote_port" => Some(request.client.rsplit_once(':')?.1.as_bytes().to_vec()),
        "connection" => Some(request.connection.to_string().into_bytes()),
        "status" => Some(exchange.status()?.to_string().into_bytes()),
        "upstream_addr" => each(&|attempt| attempt.address.clone()),
        "upstream_status" if is_over => each(&|attempt| match attempt.end {
            End::Answered(status) => status.to_string(),
            End::CutOff | End::Stalled => "200".to_owned(),
            End::ConnectTimeout | End::Silent => "504".to_owned(),
            _ => "502".to_owned(),
        }),
        "upstream_header_time" => each(&|attempt| match attempt.end {
            End::Answered(_) | End::CutOff | End::Stalled => "0.001".to_owned(),
            _ => "-".to_owned(),
        }),
        "upstream_connect_time" => each(&|attempt| match attempt.end {
            End::Refused | End::ConnectTimeout => "-".to_owned(),
            _ => "0.000".to_owned(),
        }),
        _ => None,
    }
}
