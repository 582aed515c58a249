//! Answers that tell what is wrong: problem documents (RFC 9457).

use serde::Serialize;

use crate::host::Response;

/// An answer in the form of RFC 9457.
pub(crate) fn problem(status: u32, detail: &str) -> Response {
    document(status, detail, &[])
}

pub(crate) fn document(status: u32, detail: &str, errors: &[(String, String)]) -> Response {
    #[derive(Serialize)]
    struct Document<'d> {
        r#type: &'d str,
        title: &'d str,
        status: u32,
        detail: &'d str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<Error<'d>>,
    }
    #[derive(Serialize)]
    struct Error<'d> {
        place: &'d str,
        message: &'d str,
    }
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        _ => "Service Unavailable",
    };
    let errors = errors.iter().map(|(place, message)| Error { place, message }).collect();
    let document = Document { r#type: "about:blank", title, status, detail, errors };
    Response {
        status,
        headers: vec![("content-type", "application/problem+json".to_owned())],
        body: serde_json::to_vec(&document).unwrap_or_default(),
    }
}
