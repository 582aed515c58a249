//! Which way picks go: it depends on who else gets requests with a pick in their headers.

use super::Graft;
use crate::envoy::filter::Filter;
use crate::envoy::part::Part;
use crate::envoy::parts::Connection;
use crate::envoy::places::{self, Manager, Place, Route};
use crate::envoy::wiring::{may_speak_http2, Wiring};

impl Graft<'_> {
    /// The way of picks to these peers, and the filter JSON that belongs to it.
    pub(super) fn wiring(
        &mut self,
        filter: &Filter,
        managers: &[Manager],
        routes: &[Route],
        connection: &Connection,
    ) -> (Wiring, String) {
        let http2 = may_speak_http2(&Part::Map(connection.clone())) || self.others_speak_http2(managers, routes);
        let wiring = Wiring::of(http2, filter.peer_headers.clone());
        if filter.peer_headers.is_some() || !wiring.is_to_be_named() {
            return (wiring, filter.text.clone());
        }
        match filter.with_peer_headers(wiring.headers()) {
            Some(json) => (wiring, json),
            None => (Wiring::of(true, None), filter.text.clone()),
        }
    }

    /// Whether a route of these connection managers that is not pointed to durpina leads to servers that may speak HTTP/2, or nobody
    /// knows to which. The filter picks by its JSON alone, so that they get its headers too.
    fn others_speak_http2(&self, managers: &[Manager], routes: &[Route]) -> bool {
        let pointed: Vec<Place> = routes
            .iter()
            .filter_map(|route| Some(route.place.at(self.doc(route.place)?.at(route.place.id, &["route", "cluster"])?)))
            .collect();
        managers.iter().any(|manager| {
            let Ok(config) = manager.routes else { return true };
            places::led_to(&self.files, config, &pointed).into_iter().any(|name| {
                let place = name.as_deref().and_then(|name| places::cluster(&self.files, name));
                let part = place.and_then(|place| Some(Part::of(self.doc(place)?, place.id)));
                part.is_none_or(|part| may_speak_http2(&part))
            })
        })
    }
}
