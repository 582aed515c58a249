//! Problem documents (RFC 9457): how the API says no.

use serde::Deserialize;

use crate::text::one_line;

/// What is read of a problem document. All members are optional, as in the RFC.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    title: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Error>,
}

/// One error in what was sent.
#[derive(Debug, Deserialize)]
struct Error {
    #[serde(default)]
    place: String,
    message: String,
}

impl Problem {
    /// One message: what is wrong, then each error on a line of its own. `None` when it says nothing, which is how one tells
    /// it from other JSON.
    pub(crate) fn message(&self) -> Option<String> {
        let said = |text: &Option<String>| text.as_deref().map(lines).filter(|text| !text.is_empty());
        // `detail` has the same errors, for those who know nothing of that member.
        let detail = said(&self.detail).filter(|_| self.errors.is_empty());
        let mut message = match (said(&self.title), detail) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            (title, detail) => title.or(detail)?,
        };
        for Error { place, message: error } in &self.errors {
            message += "\n  ";
            if !place.is_empty() {
                message += &one_line(place);
                message += ": ";
            }
            message += &one_line(error);
        }
        Some(message)
    }
}

/// Lines but the first are indented, as below a heading.
fn lines(text: &str) -> String {
    text.trim().lines().map(one_line).collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        serde_json::from_str::<Problem>(json).unwrap().message().unwrap()
    }

    #[test]
    fn a_title_and_a_detail_are_one_sentence() {
        assert_eq!(
            message(r#"{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no upstream \"x\""}"#),
            "Not Found: no upstream \"x\""
        );
        assert_eq!(message(r#"{"title": "Conflict"}"#), "Conflict");
        assert_eq!(message(r#"{"detail": "first\nsecond\u001b[2J\n"}"#), "first\n  second\u{fffd}[2J");
    }

    #[test]
    fn other_json_is_no_problem_document() {
        for json in ["{}", r#"{"error": "no such page"}"#, r#"{"title": " "}"#] {
            assert_eq!(serde_json::from_str::<Problem>(json).unwrap().message(), None, "{json}");
        }
    }

    #[test]
    fn each_error_has_its_line() {
        let json = r#"{"title": "Unprocessable Content", "detail": "weight: bad\nodd", "errors": [
            {"place": "weight", "message": "expected an integer from 1 to 65535, found 0"},
            {"place": "", "message": "odd"}]}"#;
        assert_eq!(
            message(json),
            "Unprocessable Content\n  weight: expected an integer from 1 to 65535, found 0\n  odd"
        );
    }
}
