//! The API's document of a peer, as a person reads it.

use serde::Deserialize;

use crate::table::{self, Align};

/// What is read of a peer's document. Only the name must be there: filters before and after this one may say less.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Peer {
    name: String,
    address: Option<String>,
    state: Option<String>,
    in_use: Option<bool>,
    weight: Option<u64>,
    fails: Option<u64>,
    in_flight: Option<u64>,
    picks: Option<u64>,
    by: Option<String>,
    why: Option<String>,
    until: Option<String>,
}

impl Peer {
    /// Whether nothing is against it.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state.as_deref(), Some("up" | "failing"))
    }

    /// Whether it gets requests, and whether in spite of its state.
    fn use_in_a_word(&self) -> &'static str {
        match self.in_use {
            Some(true) if self.is_up() => "yes",
            Some(true) => "kept",
            Some(false) => "no",
            None => "",
        }
    }

    /// Who put it into its state, why, and until when; empty when there is nothing to say.
    fn reason(&self) -> String {
        let mut reason = whose_and_why(self.by.as_deref(), self.why.as_deref());
        if let Some(until) = &self.until {
            if !reason.is_empty() {
                reason += ", ";
            }
            reason += &format!("until {until}");
        }
        reason
    }
}

/// Who put something into its state, and why; empty when neither is known.
pub(crate) fn whose_and_why(by: Option<&str>, why: Option<&str>) -> String {
    match (by, why) {
        (Some(by), Some(why)) => format!("{by}: {why}"),
        (one, other) => one.or(other).unwrap_or_default().to_owned(),
    }
}

/// One peer a row.
pub(crate) fn table(peers: &[Peer]) -> String {
    let columns = [
        ("PEER", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("IN-USE", Align::Left),
        ("WEIGHT", Align::Right),
        ("FAILS", Align::Right),
        ("IN-FLIGHT", Align::Right),
        ("PICKS", Align::Right),
        ("WHY", Align::Left),
    ];
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let rows = peers.iter().map(|peer| {
        [
            peer.name.clone(),
            peer.address.clone().unwrap_or_default(),
            peer.state.clone().unwrap_or_default(),
            peer.use_in_a_word().to_owned(),
            number(peer.weight),
            number(peer.fails),
            number(peer.in_flight),
            number(peer.picks),
            peer.reason(),
        ]
    });
    table::render(columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_has_what_there_is() {
        let some = |text: &str| Some(text.to_owned());
        let reason = |by: &str, why: &str, until: &str| {
            let given = |text: &str| some(text).filter(|text| !text.is_empty());
            Peer { by: given(by), why: given(why), until: given(until), ..Peer::default() }.reason()
        };
        assert_eq!(reason("passive", "refused", "10:45"), "passive: refused, until 10:45");
        assert_eq!(reason("operator", "", ""), "operator");
        assert_eq!(reason("", "refused", ""), "refused");
        assert_eq!(reason("", "", "10:45"), "until 10:45");
        assert_eq!(reason("", "", ""), "");
    }

    #[test]
    fn a_name_is_enough() {
        let peers: Vec<Peer> = serde_json::from_str(r#"[{"name": "a:80", "address": null, "more": [1]}]"#).unwrap();
        assert_eq!(
            table(&peers),
            "\
PEER  ADDRESS  STATE  IN-USE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY
a:80  -        -      -            -      -          -      -
"
        );
    }

    #[test]
    fn kept_is_who_gets_requests_in_spite_of_its_state() {
        let word = |state: &str, in_use: Option<bool>| {
            Peer { state: Some(state.to_owned()), in_use, ..Peer::default() }.use_in_a_word()
        };
        assert_eq!([word("up", Some(true)), word("failing", Some(true))], ["yes", "yes"]);
        assert_eq!([word("down", Some(true)), word("temporary_down", Some(true))], ["kept", "kept"]);
        assert_eq!([word("down", Some(false)), word("draining", Some(false))], ["no", "no"]);
        assert_eq!([word("up", None), word("down", None)], ["", ""], "an API that does not say");
    }
}
